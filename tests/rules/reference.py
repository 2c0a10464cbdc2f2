"""The API reference, made from the public names: `python -m tests.rules.reference` writes it, a test compares."""

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from llamacpp_server import SamplingFields
from tests.rules.packages import ROOT

FOLDER = ROOT / "docs" / "reference"
PACKAGES = (
    "llamacpp_server",
    "llamacpp_server.diagnostics",
    "llamacpp_server.integration",
    "llamacpp_server.local",
    "llamacpp_server.telemetry",
    "llamacpp_server.testing",
    "langchain_llamacpp_server",
    "llamaindex_llamacpp_server",
)
# Each page: its title, its first sentence, and its names by heading. The rest of a package goes to its last page.
_CLIENT_METHODS: Mapping[str, str] = {
    "Chat and completion": (
        "chat stream_chat complete stream_complete infill stream_infill end_reasoning prewarm batch_file"
    ),
    "Decisions": "decide calibrate",
    "Embeddings and reranking": "embed_texts rank embed_tokens embed rerank",
    "Tokens": "count_tokens fits tokenize tokenize_pieces detokenize apply_template",
    "The server": "health wait_until_ready info props slots metrics models model_name server_tools",
    "Routers": "running_models load_model unload_model watch_models download_model delete_model",
    "Other APIs": (
        "create_response stream_response count_response_tokens create_message stream_message "
        "count_message_tokens transcribe stream_transcription"
    ),
    "Resumable streams": "stream_resumable_chat resume_chat find_streams stop_stream",
}
_PAGES: Mapping[str, tuple[str, str, str]] = {
    "client": (
        "LlamaServerClient",
        "The client for llama-server without a framework; the guide is [Python client](../client.md).",
        "LlamaServerClient AsyncLlamaServerClient ServerSettings WaitState LlamaServerTokenizer DEFAULT_BASE_URL",
    ),
    "requests": (
        "Requests and replies",
        "What the client's methods for chat, completion and vectors accept and return.",
        (
            "ChatRequest CompletionRequest InfillRequest EmbedRequest RankRequest MediaPolicy SamplingFields "
            "ChatReply ChatChoice ChatDelta CompletionReply CompletionChoice CompletionDelta ReplyStart "
            "Repair ToolCall ToolCallFragment Usage Timings PromptProgress fold_chat fold_completion "
            "ThinkingControl"
        ),
    ),
    "results": (
        "Results",
        "What the client's other methods return.",
        (
            "Embeddings Ranking Rankings ScoreScale late_interaction Fit Token PromptRead ServerInfo "
            "ServerProps Health Metrics SlotState SlotPrompt SlotAction ModelCard ModelEvent LoraAdapter "
            "Progress ProgressBar BatchProgress BatchSummary"
        ),
    ),
    "other-apis": (
        "Responses, Messages, speech, tools",
        "Requests and replies of the server's other APIs.",
        (
            "ResponsesRequest ResponsesReply ResponsesEvent MessagesRequest MessagesReply MessagesEvent "
            "Transcription TranscriptionEvent ServerTool ServerToolOutput ServerToolChunk StreamState"
        ),
    ),
    "decisions": (
        "Decisions and calibration",
        "Questions, answers and calibration of [decisions](../decisions.md).",
        "Choice Noul Score Decisions Calibration CalibrationReport Example",
    ),
    "errors": ("Errors", "Every error of the client; [troubleshooting](../errors.md) lists their causes.", ""),
    "local": ("llamacpp_server.local", "Run a server; the guide is [Running a local server](../local-server.md).", ""),
    "local-options": (
        "Options of LocalServer",
        "Keyword arguments of `LocalServer`, from `llama-server --help`.",
        "local.LocalServerOptions",
    ),
    "diagnostics": ("llamacpp_server.diagnostics", "Prompt-cache reports, recordings, and checks of a server.", ""),
    "telemetry": ("llamacpp_server.telemetry", "OpenTelemetry; see [observability](../observability.md).", ""),
    "testing": ("llamacpp_server.testing", "A real server with scripted replies, for your tests.", ""),
    "integration": ("llamacpp_server.integration", "For authors of integrations with other frameworks.", ""),
    "chat-llama-server": ("ChatLlamaServer", "The guide is [LangChain](../langchain.md).", "ChatLlamaServer"),
    "langchain": ("langchain_llamacpp_server", "The other classes for LangChain, and its errors.", ""),
    "llama-server": ("LlamaServer", "The guide is [LlamaIndex](../llamaindex.md).", "LlamaServer"),
    "llamaindex": ("llamaindex_llamacpp_server", "The other classes for LlamaIndex.", ""),
}
_HOME = {
    "errors": "llamacpp_server",
    "langchain": "langchain_llamacpp_server",
    "chat-llama-server": "langchain_llamacpp_server",
    "llamaindex": "llamaindex_llamacpp_server",
    "llama-server": "llamaindex_llamacpp_server",
}
_TITLES = {
    "ConnectionFields": "Connection",
    "ServerModel": "Check of the model",
    "SamplingFields": "Request fields",
    "MediaFields": "Files and URLs in messages",
    "ChatFields": "Reasoning, tools and repairs",
    "EmbeddingFields": "Embedding",
    "RankFields": "Reranking",
    "DecisionFields": "Decisions",
    "ConnectionNames": "Other names of connection fields",
    "RequestNames": "Other names of request fields",
}
_SHOWN_IN_FULL = {"ChatLlamaServer", "LlamaServer"}
# Hooks that pydantic and the frameworks call, not users.
_PLUMBING = {"model_post_init", "get_lc_namespace", "is_lc_serializable", "lc_secrets", "lc_attributes", "class_name"}
# Not in `__all__`, since it needs the package langchain, but public.
_LAZY = {"langchain_llamacpp_server": ("LlamaServerMiddleware",)}


def pages() -> dict[Path, str]:
    """Every page of the reference."""
    return {FOLDER / f"{page}.md": "\n".join(_page(page)) + "\n" for page in _PAGES}


def names_of(page: str) -> list[str]:
    """The public names on a page, each with its package."""
    package = _HOME.get(page, f"llamacpp_server.{page}")
    if f"llamacpp_server.{page}" not in PACKAGES and page not in _HOME:
        package = "llamacpp_server"
    listed = [f"{package}.{name}" for name in _PAGES[page][2].split()]
    if listed:
        return listed
    placed = {f"{_HOME.get(other, 'llamacpp_server')}.{name}" for other in _PAGES for name in _PAGES[other][2].split()}
    module = importlib.import_module(package)
    offered = [f"{package}.{name}" for name in (*module.__all__, *_LAZY.get(package, ()))]
    rest = [name for name in offered if name not in placed]
    return [name for name in rest if name.endswith("Error")] if page == "errors" else rest


def _page(page: str) -> Iterator[str]:
    title, first, _ = _PAGES[page]
    yield from ("---", "search: {boost: 0.4}", "---", "", f"# {title}", "", first, "")
    seen_before: list[str] = []
    for name in names_of(page):
        value = _value(name)
        short = name.rpartition(".")[2]
        home = _home(value)
        if home is None:
            yield from _constant(name, value)
        elif page != "errors" and home in _elsewhere(page):
            seen_before.append(short)
        elif short == "LlamaServerClient":
            yield from _client(home, value)
        elif short == "AsyncLlamaServerClient":
            yield from _directive(home, members=False)
            yield from ("Has the methods of `LlamaServerClient`, as coroutines and async iterators.", "")
        elif page != "integration" and isinstance(value, type) and issubclass(value, BaseModel):
            yield from _model(home, value)
        else:
            yield from _directive(home, inherited=isinstance(value, type) and not issubclass(value, Exception))
    if seen_before:
        names = ", ".join(f"`{name}`" for name in seen_before)
        yield from ("## From llamacpp_server", "", f"Also exported here: {names}.", "")


def _elsewhere(page: str) -> set[str]:
    """The homes of what the core's own pages show already."""
    earlier = itertools.takewhile(lambda other: other != page, _PAGES)
    return {home for other in earlier for name in names_of(other) if (home := _home(_value(name)))}


def _value(name: str) -> Any:
    package, _, short = name.rpartition(".")
    return getattr(importlib.import_module(package), short)


def _home(value: Any) -> str | None:
    """Where an object is defined; None for values and type aliases, which have no place of their own."""
    if not isinstance(value, type) and not inspect.isfunction(value):
        return None
    return f"{value.__module__}.{value.__qualname__}"


def _constant(name: str, value: Any) -> Iterator[str]:
    short = name.rpartition(".")[2]
    text = repr(value) if isinstance(value, (str, int, tuple)) else f"a {type(value).__name__}"
    text = re.sub(r"[\w.]+\.(\w+)", r"\1", str(value)) if "typing" in type(value).__module__ else text
    yield from (f"## {short}", "", f"`{text[:200]}`", "")


def _directive(
    path: str, *, level: int = 2, members: bool = True, inherited: bool = False, hidden: tuple[str, ...] = ()
) -> Iterator[str]:
    options = [f"heading_level: {level}"] if level != 2 else []
    options += [] if members else ["members: false"]
    options += ["inherited_members: true"] if inherited else []
    if hidden:
        options += [f"filters: ['!^_', '!^({'|'.join(hidden)})$']"]
    yield f"::: {path}"
    if options:
        yield f"    options: {{{', '.join(options)}}}"
    yield ""


def _client(path: str, client: type) -> Iterator[str]:
    yield from _directive(path, members=False)
    own = {name: value for base in client.__mro__ for name, value in vars(base).items()}
    public = [name for name, value in own.items() if inspect.isfunction(value) and not name.startswith("_")]
    placed = {name for names in _CLIENT_METHODS.values() for name in names.split()}
    rest = " ".join(name for name in public if name not in placed)
    for heading, names in {**_CLIENT_METHODS, "Slots, adapters, connections": rest}.items():
        yield from (f"## {heading}", "")
        for name in names.split():
            yield from _directive(f"{path}.{name}", level=3)


def _model(path: str, model: type[BaseModel]) -> Iterator[str]:
    """A class with fields: what it is, its fields in groups, and its methods."""
    yield from _directive(path, members=False)
    for owner, names in _groups(model).items():
        yield from (f"### {_title(model, owner)} {{: #{model.__name__}-{owner.__name__}}}", "")
        if place := _described_at(model, owner):
            yield from (f"{', '.join(f'`{name}`' for name in names)}: see {place}.", "")
            continue
        docs = _field_docs(owner)
        yield from ("| field | default | meaning |", "|---|---|---|")
        yield from (f"| `{name}` | {_default(model, name)} | {_cell(docs.get(name, ''))} |" for name in names)
        yield ""
    other_names = []
    for owner in model.__mro__:
        for name in _methods(owner):
            if next(one for one in model.__mro__ if name in vars(one)) is not owner:
                continue  # overridden
            if owner.__name__.endswith("Names"):
                other_names.append(name)
            elif not _is_chat_hook(model, owner):
                yield from _directive(f"{owner.__module__}.{owner.__qualname__}.{name}", level=3)
    if other_names:
        listed = ", ".join(f"`{name}`" for name in other_names)
        yield from (
            f"### Other names {{: #{model.__name__}-names}}",
            "",
            f"For code written for other classes: {listed}.",
            "",
        )


def _title(model: type, owner: type) -> str:
    if owner is model:
        return "Own fields"
    if "llamacpp_server" in owner.__module__:
        return _TITLES.get(owner.__name__, "Other fields")
    framework = "LangChain" if owner.__module__.startswith("langchain") else "LlamaIndex"
    return f"From {framework}'s `{owner.__name__}`"


def _described_at(model: type, owner: type) -> str | None:
    """Where fields that many classes share are described, unless it is here."""
    if owner is SamplingFields and model is not SamplingFields:
        return "[request fields](../request-fields.md)"
    if owner.__name__ not in _TITLES or model.__name__ in _SHOWN_IN_FULL:
        return None
    page, shown = (
        ("llama-server", "LlamaServer")
        if "llamaindex" in model.__module__
        else ("chat-llama-server", "ChatLlamaServer")
    )
    shares = any(one is owner for one in _value(f"{_HOME[page]}.{shown}").__mro__)
    return f"[`{shown}`]({page}.md#{shown}-{owner.__name__})" if shares else None


def _methods(owner: type) -> list[str]:
    """The public methods and properties that a class of ours defines."""
    if "llamacpp_server" not in owner.__module__ or "[" in owner.__name__:
        return []
    names = [name for name, member in vars(owner).items() if not name.startswith("_") and _is_method(member)]
    return [name for name in names if name not in _PLUMBING]


def _is_method(member: Any) -> bool:
    plain = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
    return (inspect.isfunction(plain) or isinstance(member, property)) and not hasattr(plain, "decorator_info")


def _is_chat_hook(model: type, owner: type) -> bool:
    """Whether methods are those of every class, which the page of the chat class shows."""
    return owner.__name__ == "ConnectionFields" and model.__name__ not in _SHOWN_IN_FULL


def _groups(model: type[BaseModel]) -> dict[type, list[str]]:
    """The fields by the class that defines them: the model's own first, the framework's last."""
    owners: dict[type, list[str]] = {}
    for name in model.model_fields:
        owner = next(one for one in model.__mro__ if name in vars(one).get("__annotations__", {}))
        owners.setdefault(owner, []).append(name)
    rank = lambda one: (one is not model, "llamacpp_server" not in one.__module__, one is SamplingFields)  # noqa: E731
    return {owner: owners[owner] for owner in sorted(owners, key=rank)}


@cache
def _field_docs(owner: type) -> dict[str, str]:
    """What a class says about its fields: the text below each, or the `description` of the field."""
    docs = {}
    if issubclass(owner, BaseModel):
        docs = {name: field.description for name, field in owner.model_fields.items() if field.description}
    for node, below in itertools.pairwise(ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body):  # type: ignore[attr-defined]
        match node, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = text
    return {name: " ".join(text.split("\n\n")[0].split()) for name, text in docs.items()}


def _default(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=False)
    if field.default_factory is not None or callable(value) or len(repr(value)) > 40:
        return ""
    return f"`{value!r}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    for old in set(FOLDER.glob("*.md")) - set(pages()):
        old.unlink()
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
