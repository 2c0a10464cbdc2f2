"""Tables of the docs that are made from the code: `python -m tests.rules.tables` writes them, a test compares."""

import inspect
import re
from pathlib import Path
from typing import get_args

from llamacpp_server import SamplingFields

PATH = Path(__file__).parents[2] / "docs" / "request-fields.md"
_HEAD = """\
# Every request field

These are fields of `ChatLlamaServer`, `LlamaServerLLM` and `LlamaServer`, and keywords of each of their calls. What is
not given is not sent: the server's own settings stay in force. `0`, `False`, `""` and `[]` are values and are sent.
Fields of newer servers go into `extra_body`. Meanings are those of llama.cpp b11434.
"""


def request_fields() -> str:
    """The page of request fields: one table for each section of the class, in its order."""
    source = inspect.getsource(SamplingFields)
    lines = [_HEAD]
    for section in re.split(r"^    # -- ", source, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        lines += [f"## {title.capitalize()}", "", "| field | type | meaning |", "|---|---|---|"]
        for name in re.findall(r"^    (\w+): ", body, re.MULTILINE):
            field = SamplingFields.model_fields[name]
            lines.append(f"| `{name}` | {_type(field.annotation)} | {_cell(field.description or '')} |")
        lines.append("")
    return "\n".join(lines)


def _type(annotation: object) -> str:
    """As a reader would write it; None is "not given" and is left out."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    shown = [part.__name__ if isinstance(part, type) and not get_args(part) else str(part) for part in parts]
    return " or ".join(f"`{text}`".replace("typing.", "").replace("|", "\\|") for text in shown)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(request_fields(), encoding="utf-8")
