"""Tables of the docs that are made from the code: `python -m tests.rules.tables` writes them, a test compares."""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerLLM
from llamacpp_server import SamplingFields
from llamacpp_server.integration import ArgumentTable
from llamacpp_server.sampling import ALIASES, ELSEWHERE
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank
from tests.langchain.behind_doors import arguments as langchain
from tests.llamaindex.behind_doors import arguments as llamaindex
from tests.rules import peers

PATH = Path(__file__).parents[2] / "docs" / "request-fields.md"
_HEAD = """\
---
hide: [tags]
tags: [sampling, temperature, seed, top k, top p, max tokens, penalties]
search: {boost: 2}
---

# Request fields

Each of these is a field of `ChatLlamaServer`, `LlamaServerLLM` and `LlamaServer`, and a keyword argument of their
calls. A field that is not set is not sent, so the server's default applies. `0`, `False`, `""` and `[]` are values and
are sent. Use `extra_body` for fields of newer servers. Descriptions apply to llama.cpp b11434.
"""


_SAME = """\
Change the import and the class name, and keep the rest: every argument works, or is accepted and logged once with the
reason why it has no effect. A misspelled argument raises an error that suggests the correct name. Every [request
field](request-fields.md) is accepted as well, in the constructor and in each call.

This page is generated from the code; a test creates our classes with each argument.
"""
_PAGES: Mapping[str, tuple[str, Mapping[str, tuple[type[BaseModel], ArgumentTable]]]] = {
    "chatopenai-arguments.md": (
        "Arguments of ChatOpenAI",
        {"langchain_openai.ChatOpenAI": (ChatLlamaServer, langchain.CHAT)},
    ),
    "openai-arguments.md": (
        "Arguments of OpenAIEmbeddings and OpenAI",
        {
            "langchain_openai.OpenAIEmbeddings": (LlamaServerEmbeddings, langchain.EMBEDDINGS),
            "langchain_openai.OpenAI": (LlamaServerLLM, langchain.LLM),
        },
    ),
    "ollama-arguments.md": (
        "Arguments of Ollama's classes",
        {
            "langchain_ollama.ChatOllama": (ChatLlamaServer, langchain.CHAT),
            "langchain_ollama.OllamaEmbeddings": (LlamaServerEmbeddings, langchain.EMBEDDINGS),
            "langchain_ollama.OllamaLLM": (LlamaServerLLM, langchain.LLM),
            "llama_index.llms.ollama.Ollama": (LlamaServer, llamaindex.LLM),
            "llama_index.embeddings.ollama.OllamaEmbedding": (LlamaServerEmbedding, llamaindex.EMBEDDING),
        },
    ),
    "llamaindex-arguments.md": (
        "Arguments of OpenAILike, OpenAI, their embeddings, and rerankers",
        {
            "llama_index.llms.openai_like.OpenAILike": (LlamaServer, llamaindex.LLM),
            "llama_index.embeddings.openai_like.OpenAILikeEmbedding": (LlamaServerEmbedding, llamaindex.EMBEDDING),
            "llama_index.llms.openai.OpenAI": (LlamaServer, llamaindex.LLM),
            "llama_index.embeddings.openai.OpenAIEmbedding": (LlamaServerEmbedding, llamaindex.EMBEDDING),
            "llama_index.postprocessor.jinaai_rerank.JinaRerank": (LlamaServerRerank, llamaindex.RERANK),
            "llama_index.postprocessor.cohere_rerank.CohereRerank": (LlamaServerRerank, llamaindex.RERANK),
            "llama_index.core.postprocessor.SentenceTransformerRerank": (LlamaServerRerank, llamaindex.RERANK),
        },
    ),
    "llama-cpp-python-arguments.md": (
        "Arguments of ChatLlamaCpp, LlamaCpp, LlamaCPP and ChatLlama",
        {
            "langchain_community.chat_models.ChatLlamaCpp": (ChatLlamaServer, langchain.CHAT),
            "langchain_community.llms.LlamaCpp": (LlamaServerLLM, langchain.LLM),
            "langchain_community.embeddings.LlamaCppEmbeddings": (LlamaServerEmbeddings, langchain.EMBEDDINGS),
            "llama_index.llms.llama_cpp.LlamaCPP": (LlamaServer, llamaindex.LLM),
            "langchain_llama_cpp.ChatLlama": (ChatLlamaServer, langchain.CHAT),
        },
    ),
}
OURS = {path: ours for _, classes in _PAGES.values() for path, ours in classes.items()}


def argument_pages() -> dict[Path, str]:
    """The pages of other classes' arguments."""
    return {PATH.with_name(name): _argument_page(title, classes) for name, (title, classes) in _PAGES.items()}


def _argument_page(title: str, classes: Mapping[str, tuple[type[BaseModel], ArgumentTable]]) -> str:
    lines = [f"# {title}", "", _SAME]
    for path, (ours, table) in classes.items():
        peer, of = path.rpartition(".")[2], peers.read()[path]
        lines += [f"## {peer} arguments in {ours.__name__}", "", f"`{path}` of {of['package']}.", ""]
        lines += ["| argument | effect |", "|---|---|"]
        lines += [f"| `{name}` | {table.becomes(name, ours.model_fields)} |" for name in of["arguments"]]
        lines.append("")
    return "\n".join(lines)


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field of a class and of its bases of ours, on one line."""
    docs: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if "llamacpp_server" in cls.__module__ and "[" not in cls.__name__:  # pydantic puts its generics there too
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
        for name in re.findall(r"^    (\w+): ", body, re.MULTILINE):
            field = SamplingFields.model_fields[name]
            lines.append(f"| `{name}` | {_type(field.annotation)} | {_cell(docs[name])} |")
        lines.append("")
    lines += ["## Other names", "", "Also accepted in `params` of requests.", "", "| name | field |", "|---|---|"]
    lines += [f"| `{alias}` | `{name}` |" for alias, name in ALIASES.items()]
    lines += ["", "## Elsewhere", "", "Fields of the server that are set in another way.", ""]
    lines += ["| field | instead |", "|---|---|"]
    lines += [f"| `{name}` | {instead} |" for name, instead in ELSEWHERE.items()]
    return "\n".join([*lines, ""])


def _type(annotation: object) -> str:
    """As a reader would write it; None is "not given" and is left out."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    shown = [part.__name__ if isinstance(part, type) and not get_args(part) else str(part) for part in parts]
    return " or ".join(f"`{text}`".replace("typing.", "").replace("|", "\\|") for text in shown)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(request_fields(), encoding="utf-8")
    for page, text in argument_pages().items():
        page.write_text(text, encoding="utf-8")
