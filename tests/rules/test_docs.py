"""What the documentation lists is what there is."""

import re
from pathlib import Path

import pytest

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server._history import (
    REPAIRS,
)
from llamacpp_server.sampling import SAMPLING_FIELDS
from llamaindex_llamacpp_server import LlamaServer
from tests.rules import architecture, reference
from tests.rules.tables import PATH, argument_pages, request_fields

CALL_MODULES = ("_endpoints/chat", "_tools/forced_round", "_tools/checks", "_tools/text_calls")
DOCS = Path(__file__).parents[2] / "docs"


def test_every_repair_of_a_conversation_is_in_the_docs_and_no_other() -> None:
    text = (DOCS / "repairs.md").read_text()
    conversations = text[text.index("## Conversations") : text.index("## Tool calls")]
    listed = {
        name for row in re.findall(r"^\| (`.*?) \|", conversations, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    assert listed == set(REPAIRS)


def test_every_repair_of_a_call_is_in_the_docs_and_no_other() -> None:
    text = (DOCS / "repairs.md").read_text()
    calls = text[text.index("## Tool calls") : text.index("## Schemas")]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", calls, re.MULTILINE) for name in re.findall("`(.*?)`", row)}
    code = "".join((DOCS.parent / "llamacpp_server" / f"{name}.py").read_text() for name in CALL_MODULES)
    assert listed == set(re.findall(r'(?:Repair|_note)\(\s*"(\w+)"', code))


def test_links_of_the_readme_lead_somewhere() -> None:
    readme = DOCS.parent / "README.md"
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", readme.read_text())
    assert targets
    assert [target for target in targets if not (readme.parent / target).exists()] == []


def test_headings_that_links_of_the_readme_name_exist() -> None:
    readme = DOCS.parent / "README.md"
    for page, anchor in re.findall(r"\]\((?!http)([^)#]+)#([^)]+)\)", readme.read_text()):
        headings = re.findall(r"^#+ (.*)$", (readme.parent / page).read_text(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w]+", "-", re.sub(r"[`']", "", one)).strip("-").lower() for one in headings]


def test_the_page_of_request_fields_is_that_of_the_code() -> None:
    page = request_fields()
    assert page == PATH.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in SAMPLING_FIELDS)


@pytest.mark.parametrize("page", sorted(argument_pages()), ids=lambda page: page.name)
def test_a_page_of_arguments_is_that_of_the_code(page: Path) -> None:
    assert argument_pages()[page] == page.read_text(encoding="utf-8")


def test_the_architecture_picture_is_drawn_from_todays_code() -> None:
    assert architecture.PATH.read_text(encoding="utf-8") == architecture.picture(), "python -m tests.rules.architecture"


def test_the_architecture_page_describes_every_package() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in (DOCS.parent / "llamacpp_server").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))


def test_the_reference_is_that_of_the_code() -> None:
    written = {path: path.read_text(encoding="utf-8") for path in reference.FOLDER.glob("*.md")}
    assert written == reference.pages(), "python -m tests.rules.reference"


def test_every_field_of_a_chat_class_is_on_its_page_of_the_reference() -> None:
    for page, model in (("chat-llama-server", ChatLlamaServer), ("llama-server", LlamaServer)):
        text = (reference.FOLDER / f"{page}.md").read_text(encoding="utf-8")
        assert [name for name in model.model_fields if f"`{name}`" not in text] == []
