"""Tables of the docs that are made from the code: `python -m tests.rules.tables` writes them, a test compares."""

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from langchain_llamacpp_server import LlamaServerEmbeddings, LlamaServerLLM, _arguments, _vector_arguments
from llamacpp_server import SamplingFields

PATH = Path(__file__).parents[2] / "docs" / "request-fields.md"
_HEAD = """\
# Every request field

These are fields of `ChatLlamaServer`, `LlamaServerLLM` and `LlamaServer`, and keywords of each of their calls. What is
not given is not sent: the server's own settings stay in force. `0`, `False`, `""` and `[]` are values and are sent.
Fields of newer servers go into `extra_body`. Meanings are those of llama.cpp b11434.
"""


OPENAI_PATH = PATH.with_name("openai-arguments.md")
_OPENAI_HEAD = """\
# Arguments of OpenAIEmbeddings and OpenAI

As with [ChatOpenAI's](chatopenai-arguments.md): each is taken, and works, or is accepted with one line in the log that
says why it has no meaning here. A misspelt one is an error that names the right one. This page is made by walking the
fields of langchain-openai's classes, with their aliases; a test makes each class with each argument.
"""
_PEERS: tuple[tuple[str, type[BaseModel], Mapping[str, str]], ...] = (
    ("langchain_openai.embeddings.base.OpenAIEmbeddings", LlamaServerEmbeddings, _vector_arguments.EMBEDDING_NAMES),
    ("langchain_openai.llms.base.OpenAI", LlamaServerLLM, _vector_arguments.LLM_NAMES),
)


def openai_arguments() -> str:
    """The page of the arguments of OpenAIEmbeddings and OpenAI; needs langchain-openai."""
    lines = [_OPENAI_HEAD]
    for path, ours, names in _PEERS:
        module, _, peer = path.rpartition(".")
        lines += [f"## {peer}, and {ours.__name__}", "", f"| argument of {peer} | here |", "|---|---|"]
        fields = getattr(importlib.import_module(module), peer).model_fields
        lines += [f"| `{name}` | {_becomes(name, names, ours)} |" for name in sorted(_written(fields))]
        lines.append("")
    return "\n".join(lines)


def _written(fields: Mapping[str, Any]) -> Iterator[str]:
    """Names and aliases."""
    for name, field in fields.items():
        yield from {name, field.alias or name}


def _becomes(name: str, names: Mapping[str, str], ours: type[BaseModel]) -> str:
    target = _arguments.RENAMED.get(names.get(name, name), names.get(name, name))
    if target in ours.model_fields:
        return "works the same" if target == name else f"another name of `{target}`"
    reasons = {**_arguments.MEANINGLESS, **_vector_arguments.MEANINGLESS}
    if target in reasons:
        return f"accepted and logged once: {reasons[target]}"
    text = _arguments.CONVERTED[target]
    return f"becomes {text}" if text.startswith("`") else f"works; {text}"


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field of a class and of its bases of ours, on one line."""
    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if "llamacpp_server" in cls.__module__:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
            for node, below in itertools.pairwise(body):
                match node, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        docs[name] = " ".join(text.split())
    return docs


def request_fields() -> str:
    """The page of request fields: one table for each section of the class, in its order."""
    source, docs = inspect.getsource(SamplingFields), field_docs(SamplingFields)
    lines = [_HEAD]
    for section in re.split(r"^    # -- ", source, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        lines += [f"## {title.capitalize()}", "", "| field | type | meaning |", "|---|---|---|"]
        for name in re.findall(r"^    (\w+): .* = ", body, re.MULTILINE):
            field = SamplingFields.model_fields[name]
            lines.append(f"| `{name}` | {_type(field.annotation)} | {_cell(docs[name])} |")
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
    OPENAI_PATH.write_text(openai_arguments(), encoding="utf-8")
