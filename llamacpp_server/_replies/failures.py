"""Convert status, headers and body of an answer to an error, without any HTTP library.

llama-server reports many mistakes of the caller as 500 `server_error` (b11434), so its words take precedence over its
status. The words of older builds are matched as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Final, NamedTuple, TypeGuard

from pydantic_core import from_json

from .._printable import short_line
from ..errors import (
    AuthenticationFailedError,
    BadRequestError,
    ContextOverflowError,
    LlamaServerError,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    ServerBusyError,
    ServerFaultError,
    ServerLoadingError,
    UnreadableOutputError,
)
from ..settings import redact_url

START_HINT: Final = "start it with: llama-server -m model.gguf --port 8080"
_BODY_SHOWN = 2000
_WORDS_FLAGS: Final = re.IGNORECASE | re.DOTALL
_WORDS_SHOWN = 600
# What the server's parser stumbled over stands behind the place; newer builds tell neither.
_UNREAD: Final = re.compile(r"failed to parse input at pos \d+: ?(.+)", re.IGNORECASE | re.DOTALL)


# What a router (b11434) says while the server of a model restarts.
_UNREACHED: Final = re.compile(r"proxy error: Could not establish connection", re.IGNORECASE)
# Bad gateway; and Cloudflare's: the server is down, did not accept the connection, or has no route to it.
_UNREACHED_STATUSES: Final = frozenset({502, 521, 522, 523})
# What Envoy says, with status 503, where the connection broke behind the request: a model may have begun.
_BROKEN_OFF: Final = re.compile(r"reset reason: (?:connection termination|(?:remote|local) reset|protocol error)")
# A gateway's, and Cloudflare's: it waited for the answer for too long.
_GATEWAY_TIMEOUTS: Final = frozenset({504, 524})
_TIMEOUT_REMEDY: Final = "a gateway timed out before the answer came: raise its timeout, or stream the answer"
_UNREACHED_REMEDY: Final = "a gateway or router can't reach the server: check that it is up, and see its log"


class _Rule(NamedTuple):
    """Words of the server, the matching error, and the remedy."""

    words: str  # compiled with the first error: all of them would double the time of this module's import
    error: type[LlamaServerError]
    remedy: str | None = None


_SHORTEN = "shorten the conversation, or start the server with more context per slot (each slot gets -c / -np tokens)"

_SHARED: Final = (
    "the slots share one context, and concurrent requests must fit into it together: start the server with -np N, "
    "which gives each of N slots its own context (LocalServer: kv_unified=False), or with a larger -c, or set "
    "max_concurrency"
)

_OVERFLOW_OF_OTHERS: Final = (
    # OpenAI, vLLM, SGLang, Ollama, LM Studio; "the context window", "the model's context length (4096 tokens)".
    r"context_length_exceeded|ContextWindowExceeded|(?:maximum|max) (?:context|prompt) length"
    r"|(?:exceeds?|longer than|fit into) (?:the |this )?(?:model's |model \()?(?:maximum |max )?"
    r"(?:context|model) (?:len|window|limit)"
    r"|context length (?:is|of) only|reached context length|context overflow|greater than max_seq_len"
    # Anthropic and Bedrock; vLLM's "Input prompt (5000 tokens) is too long and exceeds limit of 4096".
    r"|(?:input|prompt)(?: \([^)]{0,40}\))? is too long"
    # TGI and text-embeddings-inference, Gemini, Cohere.
    r"|`inputs` (?:tokens .{0,40}must be <=|must have less than) \d"
    r"|token count .{0,40}exceeds the maximum number of tokens|too many tokens: total number"
)

_RULES: Final = (
    # Without numbers: the prompt fits, but not beside what runs in the other slots (b11434).
    _Rule(r"context size has been exceeded", ServerBusyError, _SHARED),
    # Of a text to embed or rank, which may fit into a physical batch and still not into the context.
    _Rule(r"input \(\d+ tokens\) is larger than the max context size", ContextOverflowError,
          "shorten the text, or start the server with more context per slot (-c / -np); -c can't exceed the context "
          "that the model was trained for"),
    _Rule(r"exceeds? the available context|context shift is disabled"
          r"|exceeds the context size|prompt is too long", ContextOverflowError, _SHORTEN),
    # Other servers, and gateways that pass their words on.
    _Rule(_OVERFLOW_OF_OTHERS, ContextOverflowError, _SHORTEN),
    _Rule(r"too large to process", ContextOverflowError,
          "shorten the text, or start the server with a larger -ub (and -b) than the longest input, and a context per "
          "slot (-c / -np) that holds it"),
    _Rule(r"(?:image|audio|video)s? input is not supported|does not support (?:multimodal|image|audio|vision)",
          NotSupportedError, "start the server with --mmproj and the projector made for this model"),
    _Rule(r"failed to load (?:image|audio|video)", BadRequestError,
          "the file is corrupt or its format is not supported; video requires ffmpeg on the server's host"),
    _Rule(r"failed to tokenize prompt", BadRequestError,
          "the chat template drops an image's placeholder, or a text contains a media marker"),
    _Rule(r"requires? --jinja|does not support tools|tools.* --jinja", NotSupportedError,
          "start the server with --jinja"),
    _Rule(r"does not support embeddings|--embeddings", NotSupportedError,
          "start the server with --embeddings (and --pooling mean, cls or last)"),
    _Rule(r"pooling type 'none'", NotSupportedError, "start the server with --pooling mean, cls or last"),
    _Rule(r"does not support reranking|--reranking", NotSupportedError,
          "start the server with --reranking and a reranking model"),
    _Rule(r"does not support logits", NotSupportedError,
          "this server runs an embedding or reranking model; start one with a chat model, without --embeddings"),
    _Rule(r"infill is not supported", NotSupportedError, "use a code model with fill-in-the-middle tokens"),
    _Rule(r"--slot-save-path", NotSupportedError, "start the server with --slot-save-path DIRECTORY"),
    _Rule(r"this feature is disabled", NotSupportedError,
          "start the server with --tools all, or --mcp-servers-config; these tools run on the server's host"),
    _Rule(r"--metrics", NotSupportedError, "start the server with --metrics"),
    _Rule(r"failed to parse grammar|failed to initialize samplers", BadRequestError,
          "the server could not parse the grammar, or convert the schema to one"),
    _Rule(r"jinja|must alternate|raise_exception|prefill is incompatible|Cannot pass both content and thinking"
          r"|Tool call IDs should be", BadRequestError, "the model's chat template rejects these messages"),
    _Rule(r"JSON schema error|Automatic parser generation failed|Error resolving ref|Unrecognized schema"
          r"|Pattern must start|JSON schema conversion failed", BadRequestError,
          "the server's grammar converter does not support this JSON schema"),
    _Rule(r"failed to parse tool call arguments", BadRequestError,
          "an earlier tool call in the messages has arguments that are not valid JSON"),
    _Rule(r"failed to parse (?:tools|messages|tool_choice)|Cannot (?:use both|use custom|specify grammar)|but not both"
          r"|type must be|Missing '|missing required|Invalid (?:type|base64|tool_choice|input)"
          r"|Unknown reasoning|_range_check|out of (?:range|vocab)|invalid tokens"
          r"|cannot make GET request|key '\w+' not found",
          BadRequestError),
    # llama-swap, which answers with plain text: while a model goes, and when one does not come.
    _Rule(r"can ?not ProxyRequest, state is (?!shutdown)|processe?s? was in state \w+ when", ServerLoadingError,
          "llama-swap is still swapping models; raise load_timeout"),
    _Rule(r"unable to start process: .*health check timed out", ServerFaultError,
          "the model took too long to load: raise healthCheckTimeout in llama-swap's configuration, or see its log"),
    _Rule(r"unable to start process", ServerFaultError,
          "llama-swap could not start the model's server: see its log"),
    # Between a router's choice of a model and the end of that model, which makes room for another (b11434).
    _Rule(r"model name=\S+ is not running", ServerLoadingError,
          "the router has just unloaded this model; raise load_timeout, or the router's --models-max"),
    _Rule(r"model name=\S+ failed to load", ServerFaultError,
          "the router could not load this model: see its log, and models() for the exit code"),
    _Rule(r"model is not loaded", BadRequestError, "call load_model(), or start the router with --models-autoload"),
    _Rule(r"model name is missing", BadRequestError, "this is a router: name a model"),
    _Rule(r"^model '.*' not found", NotFoundError, "the router does not know this model: see models()"),
    _Rule(r"does not match the expected|failed to parse input at pos|empty grammar stack", UnreadableOutputError,
          "the server could not parse the model's output; retry, or set reasoning_format='none'"),
)  # fmt: skip


_NO_STREAM: Final = (
    "send the chat again: the server drops a resumable stream five minutes after its end; `find_streams` lists those "
    "that it still has"
)


def failure(status: int, headers: Mapping[str, str], body: bytes, url: str) -> LlamaServerError:
    """Return the error for an answer other than 2xx.

    Args:
        status: HTTP status.
        headers: Of the answer, with lower-case lookup.
        body: What was read of it.
        url: The address that was asked, without credentials.
    """
    text = body[:_BODY_SHOWN].decode("utf-8", "replace")
    if 300 <= status < 400:
        # A gateway's redirect to its login page may hold a ticket or a signature.
        target = short_line(redact_url(headers.get("location", "that address")))
        return MalformedReplyError(
            "the server redirects to another address; redirects are not followed, to protect the API key",
            url=url, status=status, remedy=f"use {target} as base_url", body=text,
        )  # fmt: skip
    details = _error_object(body)
    words = _words(details, text)
    error = _from_words(words, details, status)
    if error is None:
        error = _from_status(status, headers, words, _type_of(details))
    if status == 404 and url.endswith("/v1/stream"):
        error.remedy = _NO_STREAM
    error.url, error.status, error.body = url, status, text or None
    return error


def event_failure(details: Any) -> LlamaServerError:
    """Return the error for an `error` event in a stream; `details` is its value."""
    details = _with_message(details) if isinstance(details, dict) else {"message": str(details)}
    code = details.get("code")
    status = code if type(code) is int and 400 <= code < 600 else 500
    words = _words(details, "")
    return _from_words(words, details, status) or _from_status(status, {}, words, _type_of(details))


def not_a_stream(body: bytes) -> LlamaServerError:
    """Return the error for a 2xx answer that should be a stream of events but is not; some servers report errors so."""
    try:
        wire = from_json(body)
    except ValueError:
        wire = None
    if isinstance(wire, dict) and wire.get("error"):
        return event_failure(wire["error"])
    return not_this_api(body, "", "")


def not_this_api(body: bytes, content_type: str, url: str, status: int = 200) -> MalformedReplyError:
    """The error for a 2xx answer that can't be read."""
    text = body[:_BODY_SHOWN].decode("utf-8", "replace")
    if is_web_page(body, content_type):
        return MalformedReplyError(
            "got an HTML page instead of a llama-server response",
            url=url, status=status, body=text, remedy="base_url must be the server's root URL or its /v1",
        )  # fmt: skip
    return MalformedReplyError(
        f"unexpected response for this endpoint: {text[:200]!r}",
        url=url, status=status, body=text,
        remedy="check that base_url points to llama-server, and that no proxy truncates responses",
    )  # fmt: skip


def is_web_page(body: bytes, content_type: str) -> bool:
    """Whether the answer is a web page: that of a web UI, or of something else."""
    return "html" in content_type or body.lstrip()[:15].lower().startswith((b"<!doctype", b"<html"))


def _error_object(body: bytes) -> dict[str, Any]:
    """The `error` object of the usual shape; {} for any other body."""
    try:
        parsed = from_json(body)
    except ValueError:
        return {}
    if not isinstance(parsed, dict):
        return {}
    error = parsed.get("error", parsed)
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    return _with_message(error)


def _with_message(error: dict[str, Any]) -> dict[str, Any]:
    # Builds of early 2024 answered {"status": "loading model"}; FastAPI-like servers in between say "detail".
    message = error.get("message") or error.get("status") or error.get("detail")
    return {**error, "message": str(message)} if message else error


def _words(details: Mapping[str, Any], text: str) -> str:
    words = details.get("message")
    if isinstance(words, str) and words:
        return words[:_WORDS_SHOWN]
    if text.lstrip()[:1] == "<":
        return "got an HTML page instead of a llama-server response (is base_url right?)"
    return text.strip()[:_WORDS_SHOWN]


def _from_words(words: str, details: Mapping[str, Any], status: int) -> LlamaServerError | None:
    kind = _type_of(details)
    for rule in _RULES:
        overflow = rule.error is ContextOverflowError and _reports_overflow(details)
        if overflow or re.search(rule.words, words, _WORDS_FLAGS):
            return _build(rule.error, words, kind, rule.remedy, details)
    if "loading" in words.lower() and status == 503:
        return _build(ServerLoadingError, words, kind, None, details)
    return None


def _from_status(status: int, headers: Mapping[str, str], words: str, kind: str | None) -> LlamaServerError:
    if kind == "feature_disabled" or status == 501:
        return _build(NotSupportedError, words or "not supported", kind, None)
    if status in (401, 403):
        remedy = "pass the key that the server was started with (--api-key): api_key=... or LLAMACPP_API_KEY"
        return _build(AuthenticationFailedError, words or "the API key is missing or was rejected", kind, remedy)
    if status == 404:
        remedy = "check base_url, and that this build of llama-server is recent enough"
        return _build(NotFoundError, words or "no such endpoint", kind, remedy)
    if status in (408, 425, 429, 503) and _BROKEN_OFF.search(words) is None:
        after = retry_after(headers)
        return ServerBusyError(
            f"the server is busy: {words}", server_message=words, server_type=kind, retry_after=after
        )
    if 400 <= status < 500:
        return _build(BadRequestError, words or "the server rejected the request", kind, None)
    return _fault(status, words, kind)


def _fault(status: int, words: str, kind: str | None) -> ServerFaultError:
    unreached = status in _UNREACHED_STATUSES or _UNREACHED.search(words) is not None
    waited = _TIMEOUT_REMEDY if status in _GATEWAY_TIMEOUTS else None
    error = ServerFaultError(
        f"llama-server says: {words or 'the server failed without an error message'}",
        server_message=words,
        server_type=kind,
        remedy=_UNREACHED_REMEDY if unreached else waited,
    )
    error.reached = not unreached
    return error


def _build(
    cls: type[LlamaServerError],
    words: str,
    kind: str | None,
    remedy: str | None,
    details: Mapping[str, Any] | None = None,
) -> LlamaServerError:
    message = f"llama-server says: {words}"
    if cls is ContextOverflowError:
        needed, room = _overflow_numbers(words, details or {})
        return ContextOverflowError(
            message, server_message=words, server_type=kind, remedy=remedy, n_prompt_tokens=needed, n_ctx=room
        )
    error = cls(message, server_message=words, server_type=kind, remedy=remedy)
    if isinstance(error, ServerBusyError):
        error.shared_context = remedy == _SHARED
    if isinstance(error, UnreadableOutputError):
        found = _UNREAD.search(str((details or {}).get("message") or words))
        error.raw = found[1] if found else None
    return error


_OVERFLOWS: Final = (
    re.compile(r"\((?P<needed>\d{1,12}) tokens\).{0,200}?(?:size|size:)\D{0,40}\((?P<room>\d{1,12})"),
    re.compile(r"\((?P<needed>\d{1,12}) tokens\).{0,200}?batch size: (?P<room>\d{1,12})"),
    # "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens", and "resulted in".
    re.compile(
        r"context length (?:is|of) (?P<room>\d{1,12})"
        r".{0,200}?(?:requested|resulted in|has|contains) (?P<needed>\d{1,12})"
    ),
)


_COUNT: Final = re.compile(r"(?<![\w.-])\d{2,12}(?![\w-]|\.\d)")


def is_number(wire: object) -> TypeGuard[int]:
    """Whether a value is a count of tokens."""
    return type(wire) is int and wire >= 0


def _type_of(details: Mapping[str, Any]) -> str | None:
    """The server's `type` of an error, where it is a text."""
    kind = details.get("type")
    return kind if isinstance(kind, str) else None


_OVERFLOW_CODES: Final = ("context_length_exceeded", "ContextWindowExceededError")


def _reports_overflow(details: Mapping[str, Any]) -> bool:
    return details.get("type") == "exceed_context_size_error" or details.get("code") in _OVERFLOW_CODES


def _overflow_numbers(words: str, details: Mapping[str, Any]) -> tuple[int | None, int | None]:
    needed, room = details.get("n_prompt_tokens"), details.get("n_ctx")
    if is_number(needed) and is_number(room):
        return needed, room
    for numbers in (found.groupdict() for pattern in _OVERFLOWS if (found := pattern.search(words))):
        return int(numbers["needed"]), int(numbers["room"])
    # In other words, where there are two numbers and no more, the smaller one is the limit.
    if len(counts := sorted({int(number) for number in _COUNT.findall(words)})) == 2:
        return counts[1], counts[0]
    return (needed if is_number(needed) else None), (room if is_number(room) else None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, in any common format; None if it does not.

    `retry-after-ms` (Azure and OpenAI) comes first, then seconds, then a date, which is taken against the reply's own
    `Date` where there is one, as clocks differ.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    header = headers.get("retry-after")
    seconds = _number(header)
    if seconds is not None or not header:
        return seconds
    until = _date(header)
    if until is None:
        return None
    now = _date(headers.get("date")) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text else None
    except ValueError:
        return None
    return max(0.0, number) if number is not None and isfinite(number) else None


def _date(text: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
