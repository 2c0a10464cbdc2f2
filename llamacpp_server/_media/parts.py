"""Convert images, audio, video and files within messages to parts that the server reads.

Data is sent unchanged, or converted if the server does not support its format. Local files and URLs are read only if
the request allows it (`read_files`, `fetch_urls`), because the program that sends a message often did not write it.
URLs are fetched without the server's key, cookies or headers.
"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, cast
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urljoin, urlsplit

from .._history import (
    TOOL_ROLES,
    unreadable,
)
from .._notices import log_repairs
from ..errors import (
    BadRequestError,
    ConnectionFailedError,
    LlamaServerError,
    RequestTimeoutError,
)
from ..replies import Repair
from ..requests import ChatRequest, MediaPolicy, enabled_repairs
from ..settings import redact_url
from ..transport import (
    Program,
    Read,
    Send,
    Together,
    Work,
)
from ..wire import MessageDict
from .formats import HEAD, Format, format_of, transcode
from .hosts import addresses_of, is_local_name, is_public
from .local_files import read_file

Part = Mapping[str, Any]
Medium = Literal["image", "audio", "video", "file"]

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of one file. In base64 it comes near the 100 MiB that the server takes in one request."""
_MOST_HOPS: Final = 3
_MOST_OF_A_REDIRECT: Final = 65536
_FETCH_SECONDS: Final = 30.0
_SILENCE_SECONDS: Final = 10.0
_AT_ONCE: Final = 4
_HEADERS: Final = {
    "User-Agent": "llamacpp-server",
    "Accept": "image/*, audio/*, video/*, */*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}
_WEB: Final = ("http", "https")
_NAMES: Final[dict[str, Medium]] = {
    "image_url": "image",
    "input_audio": "audio",
    "input_video": "video",
    "video_url": "video",
    "file": "file",
}
_TAKEN: Final = {
    "image": "JPEG, PNG, GIF, BMP or TGA",
    "audio": "WAV, MP3 or FLAC",
    "video": "a video file",
}


def holds_media(messages: Iterable[MessageDict]) -> bool:
    """Whether there is anything here for `with_media` to do."""
    # Most messages are texts: a list is made in half the time of a generator.
    lists = [content for message in messages if isinstance(content := message.get("content"), list)]
    return any(_is_media(part) for content in lists for part in content)


def with_media(request: ChatRequest) -> Program[tuple[ChatRequest, tuple[Repair, ...]]]:
    """Return the request with its media read and converted, and the repairs.

    Raises:
        BadRequestError: For what may not be read or fetched, or can't be, or the server could not read.
        ConnectionFailedError: When an address does not answer.
    """
    places = [
        (at, number, part)
        for at, message in enumerate(request.messages)
        if isinstance(content := message.get("content"), list)
        for number, part in enumerate(content)
        if _is_media(part)
    ]
    mends = "tool_results" in _wanted(request)
    programs = [
        _result_or_note(part, where, request.media)
        if mends and request.messages[at].get("role") in TOOL_ROLES
        else _user_part(part, where, request.media, mends=mends)
        for at, number, part in places
        for where in [f"messages[{at}].content[{number}]"]
    ]
    done = yield from _all(programs, far=sum(_is_far(part) for _, _, part in places) > 1)
    messages: list[dict[str, Any]] = [dict(message) for message in request.messages]
    repairs: list[Repair] = []
    for (at, number, _), (part, repair) in zip(places, done, strict=True):
        messages[at]["content"] = [*messages[at]["content"]]
        messages[at]["content"][number] = part
        repairs += [] if repair is None else [repair]
    for at, given in {at: given for at, _, given in places}.items():
        messages[at]["content"] = parts = [part for part in messages[at]["content"] if part]
        texts = all(isinstance(part, Mapping) and part.get("type") == "text" for part in parts)
        if texts and (given["type"] == "file" or request.messages[at].get("role") in TOOL_ROLES or not parts):
            messages[at]["content"] = "\n".join(part["text"] for part in parts)  # some templates take nothing else
    log_repairs(repairs)
    return replace(request, messages=cast(Sequence[MessageDict], messages)), tuple(repairs)


def media_parts(parts: Sequence[Part], policy: MediaPolicy, where: str) -> Program[list[Part]]:
    """Parts of an input, as `with_media` makes them of a conversation's."""
    ready: list[Part] = []
    for number, part in enumerate(parts):
        if not _is_media(part):
            ready.append(part)
            continue
        made, repair = yield from _ready(part, f"{where}[{number}]", policy)
        log_repairs([] if repair is None else [repair])
        ready.append(made)
    return ready


Made = tuple[Part, Repair | None]


def _all(programs: Sequence[Program[Made]], *, far: bool) -> Program[list[Made]]:
    """Results of the programs, in order; run concurrently while they wait for the network."""
    if not far:
        made = []
        for program in programs:
            made.append((yield from program))
        return made
    results = yield Together(programs, _AT_ONCE)
    for result in results:
        if isinstance(result, LlamaServerError):
            raise result
    return cast(list[Made], results)


def _wanted(request: ChatRequest) -> frozenset[str]:
    """The repairs of media that the request allows; a wrong name is reported with the other repairs."""
    wanted = request.history_repair
    if isinstance(wanted, bool):
        return enabled_repairs(("tool_results",), wanted)
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    known = "tool_results" in names or all(name.startswith("-") for name in names)
    return frozenset({"tool_results"} if known and "-tool_results" not in names else ())


def _is_far(part: Part) -> bool:
    try:
        return _source(part)[0] in _WEB
    except BadRequestError:
        return False


def _is_empty(part: Part) -> bool:
    inner = part.get(part["type"])
    given = inner if isinstance(inner, Mapping) else {"url": inner}
    return part["type"] == "image_url" and not (given.get("url") or given.get("data"))


def _user_part(part: Part, where: str, policy: MediaPolicy, *, mends: bool) -> Program[Made]:
    if mends and _is_empty(part):
        return {}, Repair("tool_results", where, "removed an image without data")
    return (yield from _ready(part, where, policy))


def _result_or_note(part: Part, where: str, policy: MediaPolicy) -> Program[Made]:
    """Convert a tool's part, or replace it with a note if unreadable, because every later turn would send it again."""
    if _is_empty(part):
        return {}, Repair("tool_results", where, "removed an image without data")
    try:
        return (yield from _ready(part, where, policy))
    except (BadRequestError, ConnectionFailedError, RequestTimeoutError):
        what = f"replaced an unreadable {_NAMES[part['type']]} in a tool result with a note"
        return unreadable(part, "it can't be read"), Repair("tool_results", where, what)


def _ready(part: Part, where: str, policy: MediaPolicy) -> Program[Made]:
    medium, (scheme, source) = _NAMES[part["type"]], _source(part)
    if (scheme in _WEB and policy.fetch_urls == "server") or (scheme == "file" and policy.read_files == "server"):
        return _linked(medium, source, where), None
    data, claimed = yield from _load(source, scheme, medium, where, policy)
    if not data:
        raise BadRequestError(f"the {medium} at {where} is empty")
    found = format_of(data[:HEAD])
    if medium == "file":
        family = found.family if found is not None else claimed.partition("/")[0]
        if family not in ("image", "audio", "video"):
            return _text(part, data, claimed, where), None
        medium = cast(Medium, family)
    if not policy.convert_media:
        return _embedded(medium, data, claimed), None
    return (yield from _readable_part(medium, data, claimed, found, where))


def _readable_part(medium: Medium, data: bytes, claimed: str, found: Format | None, where: str) -> Program[Made]:
    """Return the part for data: unchanged, converted, or rejected."""
    if found is None:
        return _embedded(medium, data, claimed), None  # perhaps TGA, which has no mark; the server will say
    if found.family != medium:
        raise BadRequestError(
            f"the {medium} at {where} is {found.mime_type}", remedy=f"send {_TAKEN[medium]}, or use the right part type"
        )
    if found.taken:
        return _embedded(medium, data, found.mime_type), None
    if medium != "image":
        raise BadRequestError(
            f"the {medium} at {where} is {found.mime_type}, which llama-server can't read",
            remedy=f"convert it to {_TAKEN[medium]}",
        )
    data, mime_type = yield Work(partial(transcode, data, found.mime_type))
    what = f"converted {found.mime_type}, which the server does not support, to {mime_type}"
    return _embedded(medium, data, mime_type), Repair("media_format", where, what)


# -- parts


def _is_media(part: object) -> bool:
    return isinstance(part, Mapping) and isinstance(kind := part.get("type"), str) and kind in _NAMES


def _source(part: Part) -> tuple[str, Any]:
    """Kind of a part's source (`data`, `http`, `https`, `file`, "" for base64 or bytes), and the data or address."""
    inner = part.get(part["type"])
    fields = inner if isinstance(inner, Mapping) else {"url": inner}
    data = fields.get("data")
    source = data or fields.get("url") or fields.get("file_data") or ""
    if not isinstance(source, str | bytes):
        raise BadRequestError(f"a part of type {part['type']!r} contains neither text nor bytes: {str(source)[:40]}")
    if data:
        return "data" if isinstance(source, str) and source.startswith("data:") else "", source
    return _scheme(source), source


def _linked(medium: Medium, url: str, where: str) -> Part:
    """A part with a URL that the server itself fetches."""
    if medium == "file":
        raise BadRequestError(f"llama-server does not support this type of file ({where})", remedy="fetch_urls=True")
    name = {"image": "image_url", "audio": "input_audio", "video": "input_video"}[medium]
    return {"type": name, name: {"url": url}}


def _embedded(medium: Medium, data: bytes, mime_type: str) -> Part:
    text = b64encode(data).decode()
    if medium == "image":
        # The type has to be an image's, and that is all that the server reads of it.
        mime_type = mime_type if mime_type.startswith("image/") else "image/png"
        return {"type": "image_url", "image_url": {"url": f"data:{mime_type};base64,{text}"}}
    if medium == "audio":
        # Builds before July 2026 (b10068) demand one of these two words, and look at the bytes for what it really is.
        known = "mp3" if mime_type == "audio/mpeg" else "wav"
        return {"type": "input_audio", "input_audio": {"data": text, "format": known}}
    return {"type": "input_video", "input_video": {"data": text}}


def _text(part: Part, data: bytes, mime_type: str, where: str) -> Part:
    inner = part.get("file")
    name = inner.get("filename") if isinstance(inner, Mapping) else None
    try:
        if data.startswith(b"%PDF-"):
            raise ValueError("a PDF")
        text = data.decode()
    except ValueError:
        raise BadRequestError(
            f"the file {name or ''} at {where} ({mime_type or 'of unknown type'}) is not text; only text is supported",
            remedy="send its text, or its pages as images to a vision model",
        ) from None
    return {"type": "text", "text": f"{name}:\n{text}" if name else text}


# -- where the bytes come from


def _scheme(source: Any) -> str:
    if isinstance(source, bytes) or not source:
        return ""
    head, colon, _ = str(source)[:16].partition(":")
    scheme = head.lower()
    if colon and scheme in ("data", "file", *_WEB):
        return scheme
    if colon and len(scheme) > 1 and scheme.isalnum():
        return "other"
    return "" if _looks_like_base64(str(source)) else "file"


def _looks_like_base64(source: str) -> bool:
    """Whether a text is base64: a path may look like it, so the decoded bytes must start like a known format."""
    head = source[: HEAD // 3 * 4]
    try:
        return format_of(b64decode(head[: len(head) // 4 * 4], validate=True)) is not None or len(source) > 1024
    except ValueError:
        return False


def _load(source: Any, scheme: str, medium: Medium, where: str, policy: MediaPolicy) -> Program[tuple[bytes, str]]:
    """Return the bytes of a source, and their claimed type ("" for none)."""
    if isinstance(source, bytes):
        return source, ""
    if scheme == "data":
        return _from_data_url(source, where)
    if scheme == "file":
        return (yield from _read(source, medium, where, policy)), ""
    if scheme in _WEB:
        return (yield from _fetch(source, medium, where, policy))
    if scheme == "other":
        raise BadRequestError(f"the {medium} at {where} has a URL that can't be fetched: {source[:40]!r}")
    return _decoded(source, where), ""


def _from_data_url(source: str, where: str) -> tuple[bytes, str]:
    head, comma, data = source[len("data:") :].partition(",")
    if not comma:
        raise BadRequestError(f"the data URL at {where} has no data")
    mime_type, *attributes = head.split(";")
    return _decoded(data, where) if "base64" in attributes else unquote_to_bytes(data), mime_type


def _decoded(text: str, where: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        pass
    try:  # lines of 76, the alphabet for addresses, or no padding
        plain = "".join(text.split()).translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequestError(f"the data at {where} is not base64: {error}") from None


def _read(source: str, medium: Medium, where: str, policy: MediaPolicy) -> Program[bytes]:
    allowed = policy.read_files
    if allowed is False or allowed == "server":
        raise BadRequestError(
            f"the {medium} at {where} is a local file, and reading files is not enabled ({source!r})",
            remedy="set read_files=True or read_files=['/a/directory'], or send the data itself",
        )
    roots = None if allowed is True else [Path(root) for root in cast(Sequence[Any], allowed)]
    path = _path(source) if source[:5].lower() == "file:" else Path(source)
    return cast(bytes, (yield Work(partial(read_file, path, roots, MOST_BYTES, where))))


def _path(url: str) -> Path:
    parts = _split(url)
    if parts.netloc not in ("", "localhost"):
        raise BadRequestError(f"a file URL must name a file of this machine, not of {parts.netloc!r}")
    return Path(unquote(parts.path))


# -- the web


def _fetch(url: str, medium: Medium, where: str, policy: MediaPolicy) -> Program[tuple[bytes, str]]:
    if policy.fetch_urls is False:
        raise BadRequestError(
            f"the {medium} at {where} is a URL, and fetching URLs is not enabled ({redact_url(url)})",
            remedy="fetch_urls=True fetches it here, fetch_urls=['host.name'] from those hosts only, and "
            "fetch_urls='server' lets the server do it; or send the data itself",
        )
    hosts = None if policy.fetch_urls is True else policy.fetch_urls
    deadline = time.monotonic() + _FETCH_SECONDS
    for _ in range(_MOST_HOPS + 1):
        try:
            send = yield from _addressed(url, hosts)
            reply = yield replace(send, deadline=deadline)
            if reply.status_code // 100 == 3 and "location" in reply.headers:
                yield Read(reply, deadline, _MOST_OF_A_REDIRECT)
                url = _joined(url, reply.headers["location"])
                continue
            body = yield Read(reply, deadline, MOST_BYTES)
        except (ConnectionFailedError, RequestTimeoutError) as error:
            error.message = f"the {medium} at {where} can't be fetched: {_why(error)}"
            error.remedy, error.url = None, redact_url(url)
            raise
        except LlamaServerError as error:
            words = f"the {medium} at {where} can't be fetched: {error.message}"
            raise BadRequestError(words, remedy=error.remedy) from error
        claimed = str(reply.headers.get("content-type", "")).partition(";")[0].strip().lower()
        if reply.status_code != 200:
            raise BadRequestError(
                f"the {medium} at {where} can't be fetched: HTTP {reply.status_code} from {redact_url(url)}"
            )
        if claimed == "text/html" and medium != "file":
            raise BadRequestError(f"the {medium} at {where} is a web page ({redact_url(url)})")
        return body, claimed
    raise BadRequestError(f"the {medium} at {where} is behind more than {_MOST_HOPS} redirects")


def _why(error: LlamaServerError) -> str:
    if isinstance(error, RequestTimeoutError):
        return f"it took longer than {_FETCH_SECONDS:.0f} s"
    return str(error.__cause__ or error.message)


def _addressed(url: str, hosts: Sequence[str] | None) -> Program[Send]:
    """Request a URL, bound to an address that was checked.

    A name is resolved once, and the connection goes to the address found: changing the name's record afterwards has no
    effect.

    Raises:
        BadRequestError: For hosts that may not be asked.
    """
    parts = _split(url)
    host = parts.hostname or ""
    if parts.scheme not in _WEB or not host:
        raise BadRequestError(f"{redact_url(url)} is not a web address")
    if hosts is not None and not any(fnmatchcase(host, pattern.lower()) for pattern in hosts):
        raise BadRequestError(f"{host} is not in fetch_urls", remedy=f"add {host!r} to fetch_urls")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = yield Work(partial(_lookup, host, port, parts.scheme))
    except ValueError as error:
        raise BadRequestError(f"{redact_url(url)} is not a web address: {error}") from error
    private = [address for address in addresses if not is_public(address)]
    if not addresses and is_local_name(host):
        private = ["a name of a private network"]  # which a proxy would look up for us
    if hosts is None and private:
        raise BadRequestError(
            f"{host} is not public ({private[0]}): fetching from private networks is not allowed",
            remedy=f"list the allowed hosts: fetch_urls=[{host!r}]",
        )
    return _send(parts, host, port, addresses[0] if addresses else None)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise BadRequestError(f"{url[:80]!r} is not a URL: {error}") from None


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise BadRequestError(f"it does not lead to a valid URL: {error}") from None


def _lookup(host: str, port: int, scheme: str) -> list[str]:
    try:
        return addresses_of(host, port, scheme)
    except OSError as error:
        raise ConnectionFailedError(f"the host {host} is unknown ({error})", reason="name") from error


def _send(parts: SplitResult, host: str, port: int, address: str | None) -> Send:
    headers = dict(_HEADERS)
    if address is not None:
        headers["Host"] = parts.netloc.rpartition("@")[2]
        pinned = f"[{address}]" if ":" in address else address
        user = parts.netloc.rpartition("@")[0]
        parts = parts._replace(netloc=f"{user}@{pinned}:{port}" if user else f"{pinned}:{port}")
    return Send(
        "GET", parts._replace(fragment="").geturl(), headers, None, _SILENCE_SECONDS, _SILENCE_SECONDS, foreign=host
    )
