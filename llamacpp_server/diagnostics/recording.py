"""A program's calls as lines of JSON, for `llamacpp-server doctor`: texts are in it, keys and addresses are not.

The first line tells of the server, each further one of a call:

    {"server": {"model": "qwen", "slots": 4, "n_ctx": 8192, "is_router": false}}
    {"kind": "chat", "ended": 1795900000.5, "session": "1", "request": {...}, "usage": {...}, "timings": {...}}
    {"kind": "embeddings", "ended": 1795900001.5, "texts": 1, "tokens": 12, "seconds": 0.01}
    {"kind": "error", "ended": 1795900002.5, "error": "ContextOverflowError", "n_prompt_tokens": 9000, "n_ctx": 8192}
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from ..chat import ChatRequest, Timings, Usage
from ..errors import BadRequestError, ContextOverflowError, LlamaServerError
from ..info import ServerInfo
from ..integration import on_event_loop

__all__ = ["Recorded", "Recording", "read_recording", "recording_of"]

_REQUEST_FIELDS: Final = ("messages", "tools", "tool_choice", "model", "params")
_KINDS: Final = ("chat", "embeddings", "error")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of a recording.

    Attributes:
        kind: `chat`, `embeddings` or `error`.
        ended: When it ended, in seconds since 1970.
        seconds: How long it took, waiting included; 0 where that is not known.
        session: Its name, where it had one.
        request: The chat; None for other calls.
        usage: Tokens of a chat.
        timings: The server's measurements of a chat.
        texts: Texts of an embedding request.
        tokens: Their tokens.
        error: Name of the error's class.
        of: What failed: `chat` or `embeddings`.
        n_prompt_tokens: Tokens of a prompt that did not fit.
        n_ctx: Tokens that would have fitted.
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


@dataclass
class Recording:
    """Writes calls to a file, each as one line at once, so that threads and processes can share it.

    Args:
        path: The file; what is there stays.
        server: What is known of the server; written once, at the head of a new file.
    """

    path: str | os.PathLike[str]
    server: ServerInfo | None = None
    _file: int | None = field(default=None, init=False, repr=False)

    def chat(self, request: ChatRequest, usage: Usage | None, timings: Timings | None, session: str | None) -> None:
        """Record a chat that was answered."""
        fields = {name: getattr(request, name) for name in _REQUEST_FIELDS if getattr(request, name)}
        counts = {"usage": _known_fields(usage), "timings": _known_fields(timings)}
        seconds = 0.0
        if timings is not None:
            seconds = ((timings.first_token_ms or timings.prompt_ms or 0) + (timings.predicted_ms or 0)) / 1000
        self._write({"kind": "chat", "session": session, "seconds": seconds, "request": fields, **counts})

    def embeddings(self, texts: int, tokens: int, seconds: float) -> None:
        """Record an embedding request."""
        self._write({"kind": "embeddings", "texts": texts, "tokens": tokens, "seconds": seconds})

    def error(self, error: LlamaServerError, of: str = "chat") -> None:
        """Record a call that failed; its message, which may hold a user's text, is left out."""
        line: dict[str, Any] = {"kind": "error", "of": of, "error": type(error).__name__}
        if isinstance(error, ContextOverflowError):
            line |= {"n_prompt_tokens": error.n_prompt_tokens, "n_ctx": error.n_ctx}
        self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            if self.server is not None and os.fstat(self._file).st_size == 0:
                os.write(self._file, _line({"server": _of_server(self.server)}))
        os.write(self._file, _line({"ended": time.time(), **line}))

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


class _Model(Protocol):
    def server_info(self) -> ServerInfo:
        """What its server is."""


def recording_of(given: str | os.PathLike[str] | Recording | None, llm: _Model | None) -> Recording | None:
    """A recording for a report: the given one, or one in the given file, which begins with the model's server."""
    if given is None or isinstance(given, Recording):
        return given
    info = None
    if llm is not None and not on_event_loop():  # there, nothing may wait
        with contextlib.suppress(LlamaServerError):
            info = llm.server_info()
    return Recording(given, info)


def read_recording(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Recorded]]:
    """What is known of the server, and the calls of a recording, in the order in which they ended.

    Raises:
        BadRequestError: For a line that is not one of a recording; names its number.
        OSError: When the file can't be read.
    """
    server, calls = dict[str, Any](), list[Recorded]()
    for number, line in _lines(path):
        try:
            wire = json.loads(line)
            if "server" in wire:
                server |= wire["server"]
            else:
                calls.append(_recorded(wire))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BadRequestError(
                f"{os.fspath(path)}, line {number}: not a line of a recording ({type(error).__name__})",
                remedy="record with CacheReport(recording=Recording(path))",
            ) from None
    return server, sorted(calls, key=lambda call: call.ended)


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    with Path(path).open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _recorded(wire: Mapping[str, Any]) -> Recorded:
    if wire["kind"] not in _KINDS:
        raise ValueError(wire["kind"])
    request = wire.get("request")
    return Recorded(
        kind=wire["kind"],
        ended=float(wire["ended"]),
        seconds=float(wire.get("seconds") or 0),
        session=wire.get("session"),
        request=ChatRequest(**{name: request[name] for name in _REQUEST_FIELDS if name in request})
        if request
        else None,
        usage=Usage(**wire["usage"]) if wire.get("usage") else None,
        timings=Timings(**wire["timings"]) if wire.get("timings") else None,
        texts=int(wire.get("texts") or 0),
        tokens=int(wire.get("tokens") or 0),
        error=str(wire.get("error") or ""),
        of=str(wire.get("of") or "chat"),
        n_prompt_tokens=wire.get("n_prompt_tokens"),
        n_ctx=wire.get("n_ctx"),
    )


def _known_fields(value: Usage | Timings | None) -> dict[str, Any] | None:
    """The fields of a value that are known."""
    if value is None:
        return None
    fields = {name: getattr(value, name) for name in type(value).__dataclass_fields__}
    return {name: found for name, found in fields.items() if isinstance(found, int | float)}


def _of_server(info: ServerInfo) -> dict[str, Any]:
    return {"model": info.model, "slots": info.total_slots, "n_ctx": info.n_ctx, "is_router": info.is_router}


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
