"""What the documentation lists is what there is."""

import re
from pathlib import Path

from llamacpp_server._history import REPAIRS

DOCS = Path(__file__).parents[2] / "docs"


def test_every_repair_of_a_conversation_is_in_the_docs_and_no_other() -> None:
    text = (DOCS / "repairs.md").read_text()
    conversations = text[text.index("## Conversations") : text.index("## Schemas")]
    listed = {
        name for row in re.findall(r"^\| (`.*?) \|", conversations, re.MULTILINE) for name in re.findall("`(.*?)`", row)
    }
    assert listed == set(REPAIRS)


def test_links_of_the_readme_lead_somewhere() -> None:
    readme = DOCS.parent / "README.md"
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", readme.read_text())
    assert targets
    assert [target for target in targets if not (readme.parent / target).exists()] == []
