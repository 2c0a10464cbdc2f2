"""Calls as lines of JSON for `llamacpp-server doctor`, in the file that `LLAMACPP_RECORD` names.

`diagnostics/recording.py` has the form of the lines. A line is one `write` to a file that is opened for appending, so
that threads, forks and other programs can share it. Nothing is kept open and no lock is taken. Lines are written where
a program may wait, which is away from the event loop; those of streams whose reader has gone, perhaps in a finaliser,
are put aside for the next call or the end of the process. What can't be written is reported once and left out: no call
fails for its recording.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, Final, TypeVar

from .._notices import warn_once
from .._replies import DeltaFilter
from ..errors import BadRequestError, ContextOverflowError, LlamaServerError
from ..replies import Timings, Usage
from ..sampling import SamplingFields
from ..settings import ServerSettings, redact_url
from .bodies import encode
from .effects import Program, Work
from .forks import in_forked_child

D = TypeVar("D")
T = TypeVar("T")
Describe = Callable[[ServerSettings, str], Program[dict[str, Any]]]

RECORD: Final = "LLAMACPP_RECORD"
# Bytes of a file to which nothing is added.
MOST_BYTES: Final = 256 << 20
# Lines of streams without a reader that wait to be written; they are short-lived, and the oldest goes.
_MOST_ASIDE: Final = 1000
_ASIDE: Final = deque["tuple[CallNote, float]"](maxlen=_MOST_ASIDE)

# What is known of servers, by address and model, with the time when they were asked, and how long that holds. A server
# has few seconds to answer.
_SERVERS: Final[dict[tuple[str, str], tuple[float, dict[str, Any]]]] = {}
_MOST_SERVERS: Final = 100
_MOST_AGE: Final = 60.0
_BRIEF: Final = 2.0

_CHAT: Final = "/v1/chat/completions"
_KINDS: Final = {
    _CHAT: "chat",
    "/v1/embeddings": "embeddings",
    "/embeddings": "embeddings",
    "/v1/rerank": "rerank",
}
_TEXTS: Final = {"embeddings": "input", "rerank": "documents"}
_SUBJECT: Final = ("messages", "tools", "tool_choice", "model")
# What says how the answer travels and where it runs; a replay decides that anew.
_LEFT_OUT: Final = {"stream", "stream_options", "return_progress", "id_slot", "user", "metadata", "store"}
_SECRET: Final = re.compile("key|secret|password|authorization", re.IGNORECASE)
# On Windows, line ends would be changed without O_BINARY.
_PLAIN: Final = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY"))
# Characters of a part of a message that is no text, above which it is left out.
_MOST_OF_MEDIA: Final = 200


def append_line(path: str | os.PathLike[str], line: bytes, most_bytes: int = MOST_BYTES) -> bool:
    """Append a line to a file, which is made for its owner alone; blocks.

    Returns:
        Whether it was written. The reason why not is logged once.
    """
    shown = os.path.basename(path)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _PLAIN, 0o600)
        try:
            if os.fstat(file).st_size + len(line) > most_bytes:
                warn_once(f"{shown} has reached {most_bytes >> 20} MiB: further calls are not recorded")
                return False
            written = os.write(file, line)
            if 0 < written < len(line):  # the disk is full: what comes after it stays a line of its own
                os.write(file, b"\n")
        finally:
            os.close(file)
    except OSError as error:
        warn_once(f"calls are not recorded in {shown}: {error.strerror or type(error).__name__}")
        return False
    return written == len(line)


def json_line(value: Mapping[str, Any]) -> bytes:
    """A line of a recording."""
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"


def with_thinking(usage: Usage | None, thought: int, said: int) -> Usage | None:
    """The usage with its reasoning tokens, where the server does not count them: by their part of the text.

    Args:
        usage: Of a reply.
        thought: Characters of its reasoning.
        said: Characters of all else that was generated.
    """
    if usage is None or usage.reasoning_tokens is not None or not thought:
        return usage
    return replace(usage, reasoning_tokens=round(usage.completion_tokens * thought / (thought + said)))


class CallNote:
    """A call that is recorded: what it asked, and what its answer says of tokens and times.

    Args:
        path: The file.
        settings: Where the call goes.
        path_of_call: Of the endpoint.
        body: Of the request; taken as it is now, since its owner may change it later.
        begun: When the call was made, in seconds since 1970.
        describe: Asks the server for its slots and its context.
    """

    def __init__(
        self,
        path: str,
        settings: ServerSettings,
        path_of_call: str,
        body: Mapping[str, Any],
        begun: float,
        describe: Describe,
    ) -> None:
        self._settings, self._model = settings, str(body.get("model") or "")
        self._is_written = False
        self._server: Mapping[str, Any] = {}
        self._path, self._begun, self._describe = path, begun, describe
        self._kind = _KINDS.get(path_of_call, "completion")
        texts = body.get(_TEXTS.get(self._kind, ""))
        self._texts = 0 if texts is None else len(texts) if isinstance(texts, list) else 1
        self._request = encode(body) if self._kind == "chat" else b""
        self._usage: Usage | None = None
        self._timings: Timings | None = None
        self._thought = self._said = 0
        self._tokens = 0

    def read_answer(self, wire: Any) -> None:
        """Take the counts of an answer that came in one piece."""
        usage = getattr(wire, "usage", None) or (wire.get("usage") if isinstance(wire, Mapping) else None)
        counts = usage if isinstance(usage, Mapping) else {}
        tokens = counts.get("total_tokens", counts.get("prompt_tokens"))
        self._tokens = tokens if type(tokens) is int else 0

    def read_deltas(self, deltas: list[Any]) -> None:
        """Take the counts of a part of a stream."""
        for delta in deltas:
            thought = getattr(delta, "reasoning_content", None) or getattr(delta, "thinking", None)
            said = getattr(delta, "content", None) or getattr(delta, "text", None)
            self._thought += len(thought or "")
            self._said += len(said or "") + sum(len(call.arguments or "") for call in getattr(delta, "tool_calls", ()))
            usage, timings = getattr(delta, "usage", None), getattr(delta, "timings", None)
            self._usage = usage if isinstance(usage, Usage) else self._usage
            self._timings = timings if isinstance(timings, Timings) else self._timings

    def leave(self) -> None:
        """Put the line aside: its reader has gone, and nothing may wait here."""
        if not self._is_written:
            _ASIDE.append((self, time.time()))

    def end(self, error: LlamaServerError | None = None) -> Program[None]:
        """Write the line, away from the event loop."""
        now, more = time.time(), {} if error is None else _of_error(error, self._kind)
        try:
            yield from self._look_at_server()
            yield Work(partial(self.write, more, now))
        except LlamaServerError:  # the time of the call is over
            self.leave()

    def write(self, more: Mapping[str, Any], ended: float) -> None:
        """Append the line, and before it those that were put aside; blocks."""
        self._is_written = True
        _write_aside()
        append_line(self._path, self._line(more, ended))

    def _look_at_server(self) -> Program[None]:
        """Ask for slots and context, once in a while."""
        key = self._settings.base_url, self._model
        known = _SERVERS.get(key)
        if known is None or time.monotonic() - known[0] > _MOST_AGE:
            brief = self._settings.replace(total_timeout=_BRIEF, connect_timeout=_BRIEF, read_timeout=_BRIEF)
            found = yield from self._describe(brief, self._model)
            if len(_SERVERS) >= _MOST_SERVERS:
                _SERVERS.clear()
            known = _SERVERS[key] = time.monotonic(), found
        self._server = known[1]

    def _line(self, more: Mapping[str, Any], ended: float) -> bytes:
        server = self._server or _SERVERS.get((self._settings.base_url, self._model), (0.0, {}))[1]
        line: dict[str, Any] = {"kind": self._kind, "ended": ended, "seconds": round(ended - self._begun, 6)}
        line["server"] = {"id": _server_id(self._settings.base_url), **server}
        if self._model:
            line["model"] = self._model
        if self._kind in _TEXTS:
            line |= {"texts": self._texts, "tokens": self._tokens}
        elif "error" not in more:
            usage = with_thinking(self._usage, self._thought, self._said)
            line |= {"usage": known_fields(usage), "timings": known_fields(self._timings)}
        if self._request and "error" not in more:
            line["request"] = _recorded_request(json.loads(self._request))
        return json_line({**line, **more})


class NotedDeltas(DeltaFilter[D]):
    """Pass the deltas of a reply to a note, unchanged.

    Args:
        note: Reads them.
    """

    def __init__(self, note: CallNote) -> None:
        self._note = note

    def add(self, deltas: list[D]) -> list[D]:
        """The deltas as they are."""
        self._note.read_deltas(deltas)
        return deltas


def note_call(
    settings: ServerSettings, path: str, body: object, begun: float | None, describe: Describe
) -> CallNote | None:
    """A note for a call that runs in a slot, where the environment says that calls are recorded."""
    file = os.environ.get(RECORD)
    if not file or not isinstance(body, Mapping):
        return None
    try:
        return CallNote(_absolute(file), settings, path, body, time.time() if begun is None else begun, describe)
    except BadRequestError:  # the same error comes from the request itself
        return None


def recorded(note: CallNote | None, program: Program[T], *, is_all: bool = True) -> Program[T]:
    """A program whose end is written to the file that `LLAMACPP_RECORD` names.

    Args:
        note: Knows what is written; None writes nothing.
        program: The call.
        is_all: Whether the call is over with it. False writes only what it failed with.
    """
    if note is None:
        return (yield from program)
    try:
        result = yield from program
    except LlamaServerError as error:
        yield from note.end(error)
        raise
    except BaseException:  # an interrupt, or a reader that has gone
        note.leave()
        raise
    if is_all:
        yield from note.end()
    return result


def is_recorded_to(path: str | os.PathLike[str]) -> bool:
    """Whether the environment has all calls recorded in this file."""
    file = os.environ.get(RECORD)
    return bool(file) and os.path.realpath(str(file)) == os.path.realpath(path)


def known_fields(value: Usage | Timings | None) -> dict[str, Any] | None:
    """The fields of a value that are known."""
    if value is None:
        return None
    fields = {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    return {name: found for name, found in fields.items() if isinstance(found, int | float)}


@lru_cache(maxsize=16)
def _absolute(path: str) -> str:
    """The file, also after the program has changed its directory."""
    return os.path.abspath(path)


@lru_cache(maxsize=256)
def _server_id(base_url: str) -> str:
    """Digest that distinguishes servers without naming them."""
    return sha256(redact_url(base_url).encode()).hexdigest()[:8]


def _of_error(error: LlamaServerError, kind: str) -> dict[str, Any]:
    line: dict[str, Any] = {"kind": "error", "of": kind, "error": type(error).__name__}
    if isinstance(error, ContextOverflowError):
        line |= {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
    return line


def _recorded_request(wire: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a chat, without keys, without the bytes of images, and without what is left to a replay."""
    found = {name: wire[name] for name in _SUBJECT if wire.get(name)}
    found["messages"] = [_without_media(message) for message in wire.get("messages") or ()]
    rest = {
        name: value for name, value in wire.items() if name not in (*_SUBJECT, *_LEFT_OUT) and not _SECRET.search(name)
    }
    known = SamplingFields.model_fields
    found["params"] = {name: value for name, value in rest.items() if name in known}
    found["extra_body"] = {name: value for name, value in rest.items() if name not in known}
    return found


def _without_media(message: Any) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return message
    parts = [
        part if not isinstance(part, Mapping) or part.get("type") == "text" else _shortened(part) for part in content
    ]
    return {**message, "content": parts}


def _shortened(value: Any) -> Any:
    """A part without its data, of which a digest stays: two that differ stay different."""
    if isinstance(value, Mapping):
        return {name: _shortened(inner) for name, inner in value.items()}
    if not isinstance(value, str):
        return value
    if "://" in value[:12]:
        return redact_url(value)[:_MOST_OF_MEDIA]
    if len(value) <= _MOST_OF_MEDIA and not value.startswith("data:"):
        return value
    digest = sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{value[:20].partition(',')[0]}, {len(value)} characters left out, {digest}"


def _write_aside() -> None:
    while _ASIDE:
        try:
            note, ended = _ASIDE.popleft()
        except IndexError:  # another thread was faster
            return
        note.write({"left": True}, ended)


atexit.register(_write_aside)
# The parent writes its own.
in_forked_child(_ASIDE.clear)
