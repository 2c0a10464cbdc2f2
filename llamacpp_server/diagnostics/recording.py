"""A program's calls as JSON lines, for `llamacpp-server doctor`; contains texts, but no keys and addresses.

`LLAMACPP_RECORD=calls.jsonl` records all calls of a process and its children, `CacheReport(recording=...)` the chats of
a report. The first line may describe the server; each further line is a call:

    {"server": {"model": "qwen", "slots": 4, "n_ctx": 8192, "is_router": false}}
    {"kind": "chat", "ended": 1795900000.5, "session": "1", "request": {...}, "usage": {...}, "timings": {...}}
    {"kind": "completion", "ended": 1795900000.5, "seconds": 2.5, "usage": {...}, "timings": {...}}
    {"kind": "embeddings", "ended": 1795900001.5, "texts": 1, "tokens": 12, "seconds": 0.01}
    {"kind": "rerank", "ended": 1795900001.5, "texts": 20, "tokens": 900, "seconds": 0.01}
    {"kind": "error", "ended": 1795900002.5, "error": "ContextOverflowError", "n_prompt_tokens": 9000, "n_ctx": 8192}

Calls recorded by `LLAMACPP_RECORD` each have a `server` with an `id`.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from ..errors import BadRequestError, ContextOverflowError, LlamaServerError
from ..info import ServerInfo
from ..integration import on_event_loop
from ..replies import Timings, Usage
from ..requests import ChatRequest
from ..transport import MOST_BYTES, RECORD, append_line, is_recorded_to, json_line, known_fields
from ..transport import with_thinking as with_thinking

__all__ = ["Recorded", "Recording", "read_recording", "recording_of"]

_REQUEST_FIELDS: Final = ("messages", "tools", "tool_choice", "model", "params", "extra_body")
_KINDS: Final = ("chat", "completion", "embeddings", "rerank", "error")

T = TypeVar("T", Usage, Timings)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of a recording.

    Attributes:
        kind: `chat`, `completion` (also by the other APIs), `embeddings`, `rerank` or `error`.
        ended: End of the call, in Unix time.
        seconds: Duration including waits; 0 if unknown.
        session: Name of its session; None or "" if it had none.
        request: The chat; None for other calls.
        usage: Tokens of a chat.
        timings: The server's measurements of a chat.
        texts: Number of texts of an embedding or reranking request.
        tokens: Number of tokens of these texts.
        error: Name of the error's class.
        of: Kind of the failed call: one of the other kinds.
        n_prompt_tokens: Tokens of a prompt that did not fit.
        n_ctx: Tokens that would have fitted.
        model: The requested model; empty if none.
        server: `id`, `slots`, `n_ctx` and `is_router` of its server, as far as known; may be empty.
    """

    kind: str
    ended: float
    seconds: float = 0.0
    session: str | None = None
    request: ChatRequest | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    texts: int = 0
    tokens: int = 0
    error: str = ""
    of: str = "chat"
    n_prompt_tokens: int | None = None
    n_ctx: int | None = None
    model: str = ""
    server: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Recording:
    """Writes calls to a file, each line in one write, so that threads and processes can share it.

    Writing stops at `most_bytes`. Errors of writing are logged once.

    Args:
        path: The file; lines are appended.
        server: Description of the server; written as the first line of a new file.
        most_bytes: Maximum size of the file, in bytes.
    """

    path: str | os.PathLike[str]
    server: ServerInfo | None = None
    most_bytes: int = MOST_BYTES

    def chat(self, request: ChatRequest, usage: Usage | None, timings: Timings | None, session: str | None) -> None:
        """Record an answered chat."""
        fields = {name: getattr(request, name) for name in _REQUEST_FIELDS if getattr(request, name)}
        counts = {"usage": known_fields(usage), "timings": known_fields(timings)}
        seconds = 0.0
        if timings is not None:
            seconds = ((timings.first_token_ms or timings.prompt_ms or 0) + (timings.predicted_ms or 0)) / 1000
        self._write({"kind": "chat", "session": session, "seconds": seconds, "request": fields, **counts})

    def embeddings(self, texts: int, tokens: int, seconds: float) -> None:
        """Record an embedding request."""
        self._write({"kind": "embeddings", "texts": texts, "tokens": tokens, "seconds": seconds})

    def error(self, error: LlamaServerError, of: str = "chat") -> None:
        """Record a failed call, without its message, which may contain a user's text."""
        line: dict[str, Any] = {"kind": "error", "of": of, "error": type(error).__name__}
        if isinstance(error, ContextOverflowError):
            line |= {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
        self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.server is not None and not _has_text(self.path):
            append_line(self.path, json_line({"server": _of_server(self.server)}), self.most_bytes)
        append_line(self.path, json_line({"ended": time.time(), **line}), self.most_bytes)


def _has_text(path: str | os.PathLike[str]) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


class _Model(Protocol):
    def server_info(self) -> ServerInfo:
        """What its server is."""


def recording_of(given: str | os.PathLike[str] | Recording | None, llm: _Model | None) -> Recording | None:
    """Return the given recording, or create one in the given file, which starts with the model's server."""
    if given is None or isinstance(given, Recording):
        return given
    if is_recorded_to(given):
        return None  # each call has its line already
    info = None
    if llm is not None and not on_event_loop():  # there, nothing may wait
        with contextlib.suppress(LlamaServerError):
            info = llm.server_info()
    return Recording(given, info)


def read_recording(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Recorded]]:
    """Read a recording: the description of the server, and the calls in the order in which they ended.

    Raises:
        BadRequestError: For an invalid line; names its number.
        OSError: If the file can't be read.
    """
    server, calls = dict[str, Any](), list[Recorded]()
    for number, line in _lines(path):
        try:
            wire = json.loads(line)
            if "kind" in wire:
                calls.append(_recorded(wire))
            else:
                server |= _checked_server(wire["server"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if not line.endswith(b"\n"):  # a program is writing it
                break
            raise BadRequestError(
                f"{os.fspath(path)}, line {number}: not a line of a recording ({type(error).__name__})",
                remedy=f"record with {RECORD}=calls.jsonl, or with CacheReport(recording=...)",
            ) from None
    return server or _most_used(calls), sorted(calls, key=lambda call: call.ended)


def _most_used(calls: Sequence[Recorded]) -> dict[str, Any]:
    """The server of most calls, where no line tells of one."""
    servers = {str(call.server.get("id")): call.server for call in calls if call.server}
    counts = Counter(str(call.server.get("id")) for call in calls if call.server)
    return (
        {name: value for name, value in servers[counts.most_common(1)[0][0]].items() if name != "id"} if counts else {}
    )


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    number = 0
    with Path(path).open("rb") as file:
        while line := file.readline(MOST_BYTES + 1):
            number += 1
            if line.strip():
                yield number, line.removeprefix(codecs.BOM_UTF8)


def _recorded(wire: Mapping[str, Any]) -> Recorded:
    if wire["kind"] not in _KINDS:
        raise ValueError(wire["kind"])
    ended, seconds, session = float(wire["ended"]), float(wire.get("seconds") or 0), wire.get("session")
    if not (math.isfinite(ended) and math.isfinite(seconds)):
        raise ValueError("a time must be a number")
    request = _checked_request(wire["request"]) if wire.get("request") else None
    return Recorded(
        kind=wire["kind"],
        ended=ended,
        seconds=seconds,
        session=None if session is None else str(session),
        request=request,
        usage=_numbers(Usage, wire.get("usage")),
        timings=_numbers(Timings, wire.get("timings")),
        texts=int(wire.get("texts") or 0),
        tokens=int(wire.get("tokens") or 0),
        error=str(wire.get("error") or ""),
        of=str(wire.get("of") or "chat"),
        n_prompt_tokens=_count(wire.get("n_prompt_tokens")),
        n_ctx=_count(wire.get("n_ctx")),
        model=str(wire.get("model") or (request.model if request is not None else "") or ""),
        server=_checked_server(wire.get("server") or {}),
    )


def _checked_request(wire: Mapping[str, Any]) -> ChatRequest:
    fields = {name: wire[name] for name in _REQUEST_FIELDS if name in wire}
    if not all(isinstance(part, Mapping) for part in (*fields["messages"], *fields.get("tools", ()))):
        raise TypeError("messages and tools must be objects")
    if not isinstance(fields.get("model"), str | None):
        raise TypeError("a model must be a name")
    return ChatRequest(**fields)


def _checked_server(wire: Mapping[str, Any]) -> dict[str, Any]:
    known = {
        name: wire.get(name) for name in ("id", "model", "slots", "n_ctx", "is_router") if wire.get(name) is not None
    }
    return known | {name: _count(known[name]) for name in ("slots", "n_ctx") if name in known}


def _numbers(kind: type[T], wire: Mapping[str, Any] | None) -> T | None:
    """Usage or timings; what a newer release has more is left out."""
    if wire is None:
        return None
    known = {name: wire[name] for name in kind.__dataclass_fields__ if wire.get(name) is not None}
    if not all(type(value) in (int, float) and math.isfinite(value) for value in known.values()):
        raise TypeError("counts and times must be numbers")
    return kind(**known)


def _count(wire: Any) -> int | None:
    if not (wire is None or type(wire) is int):
        raise TypeError("a count must be a number")
    return wire


def _of_server(info: ServerInfo) -> dict[str, Any]:
    return {"model": info.model, "slots": info.total_slots, "n_ctx": info.n_ctx, "is_router": info.is_router}
