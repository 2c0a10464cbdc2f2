"""Type checkers have no complaint of what people write: pyright as editors run it, and mypy without plugins."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import langchain_llamacpp_server
import llamacpp_server
import llamaindex_llamacpp_server

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted((ROOT / "tests" / "types").glob("*programs.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md"))]
# Pages show pieces: their names are defined elsewhere, and some packages are not installed here.
PIECES = (
    *("reportUndefinedVariable", "reportMissingImports", "reportUnusedExpression", "reportWildcardImportFromLibrary"),
    *("reportOptionalSubscript", "reportOptionalMemberAccess", "reportTypedDictNotRequiredAccess"),
)
# LangGraph's and langchain-openai's own types refuse what their guides show: dicts, and keys that are texts.
OF_OTHERS = re.compile(
    r'"InputAgentState|"RunnableConfig|SecretStr \| \(\(\) -> str\)|only within async|"FilePath'
    # LangChain's generic middleware, LangGraph's stream of message pairs.
    r'|"create_agent"|create_agent\b.*middleware|"MessagesState|"text" for class "str"'
)
IMPORTS = """\
from langchain_core.messages import HumanMessage
from llama_index.core.llms import *
from langchain_llamacpp_server import *
from llamacpp_server import *
from llamaindex_llamacpp_server import *
"""
pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def pyright(where: Path, *options: Any, **config: Any) -> list[str]:
    """What it finds in the files of a directory."""
    settings = {"typeCheckingMode": "basic", "extraPaths": [str(ROOT)], **config}
    (where / "pyrightconfig.json").write_text(json.dumps(settings))
    run = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(where)]
    out = subprocess.run([*run, *options], capture_output=True, text=True, check=False, timeout=500).stdout
    found = json.loads(out)["generalDiagnostics"]
    return [f"{Path(one['file']).name}:{one['range']['start']['line'] + 1}: {one['message']}" for one in found]


def mypy(where: Path, *options: str) -> list[str]:
    (where / "mypy.ini").write_text("[mypy]\n")
    run = [sys.executable, "-m", "mypy", "--config-file", str(where / "mypy.ini"), "--strict", *options]
    command = [*run, "--cache-dir", str(where / "cache"), *(str(path) for path in sorted(where.glob("*.py")))]
    out = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=500, env={"MYPYPATH": str(ROOT)}, cwd=where
    )
    assert out.returncode in (0, 1), out.stderr
    return [line for line in out.stdout.splitlines() if ": error: " in line]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    for path in PROGRAMS:
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"))
    return tmp_path


@pytest.mark.parametrize("mode", ["basic", "standard"])
def test_pyright_has_no_complaint(program: Path, mode: str) -> None:
    assert pyright(program, typeCheckingMode=mode) == []


def test_mypy_has_no_complaint(program: Path) -> None:
    assert mypy(program) == []


def test_the_programs_use_each_class_of_both_adapters_and_the_requests_of_the_client() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PROGRAMS)
    used = set(re.findall(r"\w+", text))
    adapters = {*langchain_llamacpp_server.__all__, *llamaindex_llamacpp_server.__all__}
    wanted = {name for name in adapters if name.startswith(("ChatLlama", "LlamaServer"))}
    wanted |= {name for name in llamacpp_server.__all__ if name.endswith(("Request", "Client", "Tokenizer"))}
    assert len(wanted) > 15
    assert wanted - used - {"LlamaServerProgressEvent"} == set(), "that event is only received"
    assert len(re.findall(r"\b(?:ChatLlamaServer|LlamaServer\w*|Polite|Known|Checked)\(", text)) > 50


def test_misspelt_arguments_and_wrong_types_are_complaints_still(tmp_path: Path) -> None:
    wrong = ["ChatLlamaServer(temprature=1)", "ChatLlamaServer(temperature='hot')", "LlamaServer(api_bass='a')"]
    wrong += ["LlamaServerClient(read_timout=5)", "LlamaServerClient().with_settings(max_retries='two')"]
    lines = [
        "from langchain_llamacpp_server import ChatLlamaServer",
        "from llamacpp_server import LlamaServerClient",
        "from llamaindex_llamacpp_server import LlamaServer",
    ]
    (tmp_path / "wrong.py").write_text("\n".join([*lines, *wrong]) + "\n")
    assert len(pyright(tmp_path)) == len(wrong)
    assert len(mypy(tmp_path)) == len(wrong)


def test_pyright_has_no_complaint_of_the_code_in_readme_and_docs(tmp_path: Path) -> None:
    for page in PAGES:
        blocks = re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        if blocks:
            name = str(page.relative_to(ROOT).with_suffix(".py")).replace("/", "_").replace("-", "_")
            (tmp_path / name).write_text(IMPORTS + "\n".join(textwrap.dedent(block) for _, block in blocks))
    assert len(list(tmp_path.glob("*.py"))) > 20
    assert [found for found in pyright(tmp_path, **dict.fromkeys(PIECES, "none")) if not OF_OTHERS.search(found)] == []
