"""Requests to a model: frozen values, free of HTTP and of frameworks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from ._read_as import ReadAs, default_value
from ._values import RequestRepr
from .controls import ThinkingControl
from .replies import Repair
from .wire import MessageDict, ToolDict

__all__ = [
    "ChatRequest",
    "CompletionRequest",
    "InfillRequest",
    "MediaPolicy",
]

FORCED_CALL_WITHIN: Final = 4096
LOOP_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPolicy:
    """Controls which local files and URLs in messages may be read. See docs/multimodal.md.

    Attributes:
        read_files: Whether local files that messages name are read: True for any, a list of directories for those
            within, `server` to leave `file://` addresses to the server (`--media-path`). By default they are refused.
        fetch_urls: Whether http(s) addresses are fetched, by this process: True for public hosts, a list of host names
            (`*` is a wildcard) for those, private ones included; `server` to have the *server* fetch them. By default
            they are refused.
        convert_media: Whether images in formats that the server can't read are converted (with Pillow), and what it
            can't read at all is refused here. False sends everything as it is.
    """

    read_files: bool | Literal["server"] | Sequence[str] = False
    fetch_urls: bool | Literal["server"] | Sequence[str] = False
    convert_media: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ChatRequest(RequestRepr):
    """A chat request, before it is rewritten for the server.

    Attributes:
        messages: The conversation in the server's own message shape.
        tools: Tools in the OpenAI shape; empty means none.
        tool_choice: `auto`, `none`, `required` (`any`, True), the name of one of `tools`, or an object of OpenAI or
            Anthropic. A named tool is really forced. None leaves it to the server.
        parallel_tool_calls: False leaves out all calls but the first; None leaves it to the template.
        model: Name of the model; needed by a router, ignored by a server with one model.
        params: Request fields of `SamplingFields`, by name.
        extra_body: Fields sent as they are, last, over everything else.
        history_repair: Repairs of messages that would wedge the chat template: True for all, False for none, names
            of those to do, or names with a minus before them of those to leave out. See docs/repairs.md.
        clean_schemas: Whether schemas are rewritten where the server's grammar converter refuses or mis-serves them.
        max_thinking_seconds: How long the model may think, from its first thought on; then it answers. None: no limit.
        thinking_control: Ends the thinking when asked to, while the reply runs.
        cache_salt: Put in brackets at the head of the system message, so that the prompts of sessions with different
            salts have no beginning in common, and a server with default flags finds each session's own cache. The model
            sees it, and it can make everything worse: see docs/prompt-cache.md. None adds nothing.
        media: What may be read, fetched and converted for the messages.
        check_calls: Whether the reply's tool calls are held to what the request allows; False takes them as they are.
        forced_round: Whether a demanded call that did not come is asked for once more, as an answer that the grammar
            holds to the schema of the tool's arguments. Not where `max_tokens` cut it off, and not with `n` > 1.
        forced_call_within: Tokens of text and thinking after which a demanded call has to have begun, where the
            request has no `max_tokens`; None sets no limit. A reply that runs on is stopped.
        split_n: Whether an `n` above the server's slots, which it refuses, is split into several requests.
        break_special_tokens: Whether the model's special tokens are broken up in what users, tools and earlier replies
            say, so that no text can end its turn and begin another. System messages are sent as they are.
        missing_call_is_error: Whether a demanded call that did not come is a `MissingToolCallError` in the end.
        parse_text_calls: Whether a call of one of `tools` that the server left in the text is taken as a call. It is
            reported as a repair either way. Text from what may be its mark on is held back until the end then.
        loop_limit: Tokens of one unit over and over after which an answer under a schema or grammar, or a call's
            arguments, are stopped, where the request has no `max_tokens`; None sets no limit.
        repairs: What the caller rewrote before; logged and listed with the others.
    """

    messages: Sequence[MessageDict | Mapping[str, Any]]
    tools: ReadAs[Sequence[ToolDict], Sequence[ToolDict | Mapping[str, Any]]] = default_value(())
    tool_choice: str | bool | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    model: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    extra_body: Mapping[str, object] = field(default_factory=dict)
    history_repair: bool | Collection[str] = True
    clean_schemas: bool = True
    max_thinking_seconds: float | None = None
    thinking_control: ThinkingControl | None = field(default=None, repr=False, compare=False)
    cache_salt: str | None = None
    media: MediaPolicy = MediaPolicy()
    check_calls: bool = True
    forced_round: bool = True
    forced_call_within: int | None = FORCED_CALL_WITHIN
    split_n: bool = True
    break_special_tokens: bool = True
    missing_call_is_error: bool = True
    parse_text_calls: bool = False
    loop_limit: int | None = LOOP_LIMIT
    repairs: Sequence[Repair] = ()


def messages_of(request: ChatRequest) -> Sequence[MessageDict]:
    """The messages of a request as what they are. The request takes any mappings, as programs annotate them so."""
    return cast("Sequence[MessageDict]", request.messages)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CompletionRequest(RequestRepr):
    """A text completion request.

    Attributes:
        prompt: Text, token ids, or a list of either (a batch: one choice each).
        model: As in `ChatRequest`.
        split_n: As in `ChatRequest`.
        params: Request fields of `SamplingFields`, by name.
        extra_body: Fields sent as they are, last, over everything else.
        loop_limit: As in `ChatRequest`.
    """

    prompt: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
    model: str | None = None
    split_n: bool = True
    params: Mapping[str, object] = field(default_factory=dict)
    extra_body: Mapping[str, object] = field(default_factory=dict)
    loop_limit: int | None = LOOP_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class InfillRequest(RequestRepr):
    """A fill-in-the-middle request; requires a model with fill-in-the-middle tokens.

    Attributes:
        prefix: Text before the gap.
        suffix: Text behind the gap.
        prompt: Text placed right after the middle token, to start the answer with.
        extra: Other files for context, as (file name, text).
        model: As in `ChatRequest`.
        split_n: As in `ChatRequest`.
        params: Request fields of `SamplingFields`, by name.
        extra_body: Fields sent as they are, last, over everything else.
        loop_limit: As in `ChatRequest`.
    """

    prefix: str
    suffix: str
    prompt: str = ""
    extra: Sequence[tuple[str, str]] = ()
    model: str | None = None
    split_n: bool = True
    params: Mapping[str, object] = field(default_factory=dict)
    extra_body: Mapping[str, object] = field(default_factory=dict)
    loop_limit: int | None = LOOP_LIMIT


def enabled_repairs(names: Collection[str], wanted: bool | Collection[str]) -> frozenset[str]:
    """The repairs of `names` to do.

    Args:
        names: All that there are.
        wanted: True for all, False for none, or those to leave out, each with a minus before its name, or those to do.

    Raises:
        ValueError: For a name that does not exist.
    """
    if isinstance(wanted, bool):
        return frozenset(names) if wanted else frozenset()
    given = {wanted} if isinstance(wanted, str) else set(wanted)
    if unknown := sorted(name for name in given if name.removeprefix("-") not in names):
        raise ValueError(f"unknown repair: {', '.join(unknown)} (available: {', '.join(sorted(names))})")
    without = {name[1:] for name in given if name.startswith("-")}
    kept = given - {f"-{name}" for name in without}
    return frozenset((kept or set(names)) - without)
