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
        read_files: Local files that may be read for messages: True for any, a list of directories for those within,
            `server` to leave `file://` addresses to the server (`--media-path`). False refuses them.
        fetch_urls: HTTP(S) addresses that this process may fetch for messages: True for public hosts, a list of host
            names (`*` is a wildcard) for those, including private ones; `server` to have the *server* fetch them. False
            refuses them.
        convert_media: Whether to convert images in formats that the server can't read (with Pillow), and to refuse
            those that can't be converted. False sends everything unchanged.
    """

    read_files: bool | Literal["server"] | Sequence[str] = False
    fetch_urls: bool | Literal["server"] | Sequence[str] = False
    convert_media: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ChatRequest(RequestRepr):
    """A chat request, before it is rewritten for the server.

    Attributes:
        messages: The conversation, as messages in OpenAI's format.
        tools: Tools in OpenAI's format.
        tool_choice: `auto`, `none`, `required` (or `any`, True), the name of one of `tools`, or an object in the format
            of OpenAI or Anthropic. A named tool is enforced. None leaves it to the server.
        parallel_tool_calls: False drops all calls except the first; None leaves it to the template.
        model: Name of the model; required by a router, ignored by a server with one model.
        params: Request fields of `SamplingFields`, by name.
        extra_body: Fields that are sent unchanged and override all others.
        history_repair: Repairs of messages that the chat template would reject: True for all, False for none, a
            collection of names to enable, or of names with a leading minus to disable. See docs/repairs.md.
        clean_schemas: Whether to rewrite schemas that the server's grammar converter would reject or misread.
        max_thinking_seconds: Maximum seconds of reasoning, from its first token; the answer follows. None sets no
            limit.
        thinking_control: Control for ending the reasoning of the running reply.
        cache_salt: Text added in brackets to the start of the system message, so that sessions with different salts
            share no prefix and a server with default flags finds the cache of each session. The model sees it, and it
            can make caching worse: see docs/prompt-cache.md. None adds nothing.
        media: Which files and URLs in messages may be read.
        check_calls: Whether to check the reply's tool calls against the request; False returns them unchanged.
        forced_round: Whether a missing required tool call is requested once more, as an answer constrained to the
            schema of the tool's arguments. Not if `max_tokens` cut the reply off, and not with `n` > 1.
        forced_call_within: Maximum tokens of text and reasoning before a required tool call begins, if the request has
            no `max_tokens`; the reply is stopped there. None sets no limit.
        split_n: Whether to split an `n` above the number of slots, which the server rejects, into several requests.
        break_special_tokens: Whether to break up the model's special tokens in messages of users and tools and in
            earlier replies, so that no text can end its turn and forge another. System messages are sent unchanged.
        missing_call_is_error: Whether a required tool call that is still missing raises `MissingToolCallError`.
        parse_text_calls: Whether to parse a call of one of `tools` that the server left in the text. It is reported as
            a repair either way. If enabled, text after a possible start of a call is held back until the end.
        loop_limit: Stops a structured answer or a call's arguments after repeating itself for this many tokens, if the
            request has no `max_tokens`; None sets no limit.
        repairs: Rewrites made by the caller; logged and listed with the others.
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
        prompt: Text, token IDs, or a list of either (a batch with one choice each).
        model: As in `ChatRequest`.
        split_n: As in `ChatRequest`.
        params: Request fields of `SamplingFields`, by name.
        extra_body: Fields that are sent unchanged and override all others.
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
    """A fill-in-the-middle request, for models with fill-in-the-middle tokens.

    Attributes:
        prefix: Text before the gap.
        suffix: Text after the gap.
        prompt: Text placed right after the middle token, as the start of the answer.
        extra: Other files for context, as pairs of file name and text.
        model: As in `ChatRequest`.
        split_n: As in `ChatRequest`.
        params: Request fields of `SamplingFields`, by name.
        extra_body: Fields that are sent unchanged and override all others.
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
    """Return the enabled repairs.

    Args:
        names: All repairs.
        wanted: True for all, False for none, names to enable, or names with a leading minus to disable.

    Raises:
        ValueError: For an unknown name.
    """
    if isinstance(wanted, bool):
        return frozenset(names) if wanted else frozenset()
    given = {wanted} if isinstance(wanted, str) else set(wanted)
    if unknown := sorted(name for name in given if name.removeprefix("-") not in names):
        raise ValueError(f"unknown repair: {', '.join(unknown)} (available: {', '.join(sorted(names))})")
    without = {name[1:] for name in given if name.startswith("-")}
    kept = given - {f"-{name}" for name in without}
    return frozenset((kept or set(names)) - without)
