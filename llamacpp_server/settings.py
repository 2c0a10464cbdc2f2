"""Connection settings: address, API key, timeouts and retries."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from ._frames import hides_arguments
from ._read_as import ReadAs, default_value
from .progress import Progress

__all__ = [
    "DEFAULT_BASE_URL",
    "UNNAMED",
    "ServerSettings",
    "UnnamedAddress",
    "WaitState",
    "is_loopback",
    "normalize_base_url",
    "redact_url",
    "split_unix",
]

DEFAULT_BASE_URL: Final = "http://localhost:8080"


class UnnamedAddress(str):
    """The address of a server that nobody named. Where nothing listens there, the newer default port is tried."""

    __slots__ = ()


UNNAMED: Final = UnnamedAddress(DEFAULT_BASE_URL)

# A connection over loopback or a LAN is there in milliseconds; five seconds tell a slow network from a dead one.
DEFAULT_CONNECT_TIMEOUT: Final = 5.0
# A request that waits for a slot gets no byte at all, and reading a long prompt on a CPU takes minutes.
DEFAULT_READ_TIMEOUT: Final = 600.0
DEFAULT_MAX_RETRIES: Final = 2
# Big models take minutes from a cold disk.
DEFAULT_LOAD_TIMEOUT: Final = 600.0

_NOT_NEGATIVE: Final = (
    "connect_timeout",
    "read_timeout",
    "first_token_timeout",
    "total_timeout",
    "load_timeout",
    "max_retries",
)

# Words that clients of other APIs put where a key is demanded. They are not keys: none is sent for them.
PLACEHOLDER_KEYS: Final = frozenset(
    {"", "no-key", "no_key", "nokey", "none", "null", "not-needed", "not-required", "empty", "sk-no-key-required"}
)

# What people paste as a base URL because it is in front of them: the address of one endpoint.
_ENDPOINT = re.compile(
    r"/(?:chat/completions(?:/[a-z_]+)?|completions?|embeddings?|rerank(?:ing)?|models|responses|messages|health"
    r"|props|slots|metrics|tokenize|detokenize|apply-template|infill|lora-adapters)$"
)

# How the address of a unix socket is kept: its path is quoted where a host would be, so that `/v1/...` can follow.
_UNIX: Final = "http+unix://"

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class WaitState:
    """The argument of `on_wait`, which is called each time a request is about to wait for the server.

    Attributes:
        reason: `loading`, `refused`, `busy` or `retry`; `slot` where as many requests of this process run as the server
            has slots.
        elapsed: Seconds waited so far.
        budget: Seconds after which the wait ends in an error; None when attempts are counted instead, and for `slot`.
        url: The server, without credentials.
        over: Whether the wait has ended: a wait for a slot is reported when it begins and when it ends.
    """

    reason: str
    elapsed: float
    budget: float | None
    url: str
    over: bool = False


@hides_arguments
def normalize_base_url(base_url: str) -> str:
    """The server's root: without `/v1`, endpoint names and trailing slashes; an `--api-prefix` is kept.

    Examples:
        >>> normalize_base_url("localhost:8080/v1/chat/completions/")
        'http://localhost:8080'
        >>> normalize_base_url("https://host/llama/v1")
        'https://host/llama'
        >>> normalize_base_url("unix:///run/llama.sock")
        'http+unix://%2Frun%2Fllama.sock'

    Raises:
        ValueError: When no host can be found in it.
    """
    text = base_url.strip()
    if text.startswith("unix:"):
        path = _root(text.removeprefix("unix:").removeprefix("//"))
        text = _UNIX + quote(path, safe="")
    if "://" not in text:
        text = "http://" + text
    if not _is_address(text):
        raise ValueError(f"base_url must look like {DEFAULT_BASE_URL}, not {redact_url(base_url)!r}")
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, parts.netloc, _root(parts.path), "", ""))


def _root(path: str) -> str:
    return _ENDPOINT.sub("", path.rstrip("/")).rstrip("/").removesuffix("/v1").rstrip("/")


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    named = bool(parts.hostname) and not parts.netloc.endswith(":") and text.isprintable() and " " not in text
    # A query is dropped, and what seems to be one may be the end of a password.
    named = named and "@" not in parts.query + parts.fragment
    return named and parts.scheme in ("http", "https", "http+unix")


def split_unix(url: str) -> tuple[str, str | None]:
    """An address as HTTP knows it, and the path of the unix socket that it is asked on; None for a network address.

    Examples:
        >>> split_unix("http+unix://%2Frun%2Fllama.sock/v1/models")
        ('http://localhost/v1/models', '/run/llama.sock')
    """
    if not url.startswith(_UNIX):
        return url, None
    socket, _, path = url.removeprefix(_UNIX).partition("/")
    return f"http://localhost/{path}", unquote(socket)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, in any of its spellings."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def redact_url(url: str) -> str:
    """The address without user name, password and query, for messages and logs.

    A password may hold what ends the host in an address (`/`, `?`, `#`), so all before the last `@` goes, unless no
    colon is there: `http://host/logo@2x.png` is shown.
    """
    if "@" not in url and "?" not in url and "#" not in url:
        return url
    scheme = _SCHEME.match(url)
    shown = url[scheme.end() :] if scheme else url
    login, _, rest = shown.rpartition("@")
    host, slash, _ = login.partition("/")
    if not slash or "@" in host or ":" in login:
        shown = rest
    return (scheme[0] if scheme else "") + re.split("[?#]", shown)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Connection settings: address, API key, timeouts (in seconds) and retries.

    Attributes:
        base_url: The server: host, host/v1, a full endpoint address or one with an `--api-prefix` all work, and
            `unix:///run/llama.sock` for a server that was started with `--host /run/llama.sock`. Where it is not given
            and nothing listens at port 8080, 9931 is tried, the default of builds since autumn 2026.
        api_key: None sends none (a server without `--api-key` wants none).
        model: Default model name for requests that name none; needed by routers only.
        connect_timeout: For a connection; None waits as long as the system does.
        read_timeout: Longest silence between two bytes. None waits forever. A queued request is silent.
        first_token_timeout: From the sending of a request to the first token of its stream: the server's queue and the
            reading of the prompt are in it, waits before the request is sent are not. `read_timeout` then holds from
            the first token on, and for what is not streamed. None leaves the first token to `read_timeout`.
        total_timeout: For a whole request with its waits and retries, from the connection to the last byte, however
            slowly bytes come; None sets no limit. Only the lookup of a host's name is left to the system's limits.
        max_retries: Repeats of a request that failed in a way that repeating can help. Waiting for a model
            to load is not counted here. When a layer above repeats a request that these could not help, it gets
            one attempt a time, so that its repeats and ours add up and don't multiply.
        retry_read_timeout: Whether a request that got no byte for `read_timeout` is repeated as well. The server may
            still be at the first one, so this can double its load.
        load_timeout: How long to wait for a loading (or starting) server.
        wait_while_loading: Whether requests wait for a server that says it is loading.
        wait_while_refused: Whether requests wait for a server that does not listen yet (a cold start).
        max_concurrency: Requests of this process that run at once on the server: `slots` (as many as it has slots,
            asked for when a second request comes; on a router as many as each model has), a number, or None for no
            limit. Where slots share one context, only as many as fit into it together. The rest wait here: first
            come, first served, but conversations whose prompt is still in a slot go first, and nobody is passed by for
            ever. All spellings of a server's address share one limit.
        priority: `background` requests (titles, summaries) wait until no other of this process waits for the server.
        headers: Sent with every request.
        query: Added to every request's address.
        verify: As in httpx: False switches the check of certificates off; an SSLContext brings its own.
        on_wait: Called with a `WaitState` before each wait.
        on_progress: Called while a model loads, a server is waited for, and a prompt is read. It makes chats and
            completions ask for `return_progress`.
    """

    base_url: str = UNNAMED
    api_key: ReadAs[SecretStr | None, SecretStr | str | None] = default_value(None)
    model: str | None = None
    connect_timeout: float | None = DEFAULT_CONNECT_TIMEOUT
    read_timeout: float | None = DEFAULT_READ_TIMEOUT
    first_token_timeout: float | None = None
    total_timeout: float | None = None
    max_retries: int = DEFAULT_MAX_RETRIES
    retry_read_timeout: bool = False
    load_timeout: float = DEFAULT_LOAD_TIMEOUT
    wait_while_loading: bool = True
    wait_while_refused: bool = False
    max_concurrency: int | Literal["slots"] | None = "slots"
    priority: Literal["normal", "background"] = "normal"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool | ssl.SSLContext = field(default=True, repr=False)
    on_wait: Callable[[WaitState], None] | None = field(default=None, repr=False, compare=False)
    on_progress: Callable[[Progress], None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_types()
        if not isinstance(self.base_url, UnnamedAddress):
            object.__setattr__(self, "base_url", normalize_base_url(self.base_url))
        if isinstance(self.api_key, str):
            object.__setattr__(self, "api_key", SecretStr(self.api_key))
        if self.api_key is not None and self.api_key.get_secret_value().strip().lower() in PLACEHOLDER_KEYS:
            object.__setattr__(self, "api_key", None)
        for name in _NOT_NEGATIVE:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value!r}")
        most = self.max_concurrency
        if most not in ("slots", None) and not (isinstance(most, int) and most >= 1):
            raise ValueError(f"max_concurrency must be 'slots', None or a number from 1, got {most!r}")
        for name, text in self.request_headers().items():
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a valid header name")
            if not (text.isascii() and text.isprintable()):
                raise ValueError(f"the value of header {name} contains characters that HTTP does not allow")

    def _check_types(self) -> None:
        """Refuse values of another type; a secret here, where no message shows it."""
        if self.priority not in ("normal", "background"):
            raise ValueError(f"priority must be 'normal' or 'background', got {self.priority!r}")
        for name in _NOT_NEGATIVE:
            if not isinstance(value := getattr(self, name), int | float | None):
                raise ValueError(f"{name} must be a number, not {type(value).__name__}")
        if not isinstance(self.base_url, str):
            raise ValueError(f"base_url must be a string, not {type(self.base_url).__name__}")
        if not isinstance(self.api_key, SecretStr | str | None):
            raise ValueError(f"api_key must be a string, not {type(self.api_key).__name__}")
        if not isinstance(self.headers, Mapping) or not isinstance(self.query, Mapping):
            raise ValueError("headers and query must be mappings")
        for name, text in self.headers.items():
            if not isinstance(name, str) or not isinstance(text, str):
                raise ValueError("names and values of headers must be strings")

    def __repr__(self) -> str:
        key = "None" if self.api_key is None else "'**********'"
        return f"ServerSettings(base_url={redact_url(self.base_url)!r}, api_key={key}, model={self.model!r})"

    @classmethod
    @hides_arguments
    def from_env(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Settings from `LLAMACPP_BASE_URL`, `LLAMACPP_API_KEY` and `LLAMACPP_MODEL`, where not given.

        Args:
            environ: The environment to read; None reads the process's.
            **given: Fields of this class. A None for one of the three above means "not given".

        Raises:
            ValueError: For a value that can't be used.
        """
        environ = os.environ if environ is None else environ
        for name in ("base_url", "api_key", "model"):
            if given.get(name) is None:
                given.pop(name, None)
                if value := environ.get(f"LLAMACPP_{name.upper()}"):
                    given[name] = value
        return cls(**given)

    @hides_arguments
    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def request_headers(self) -> dict[str, str]:
        """The headers of each request; the key is among them.

        With a user name in `base_url`, which is for a gateway, the key goes where llama-server looks for it as well.
        """
        headers = dict(self.headers)
        login = _login(self.base_url) if "@" in self.base_url else None
        if login:
            headers["Authorization"] = login
        if self.api_key is not None:
            name, kind = ("X-Api-Key", "") if login else ("Authorization", "Bearer ")
            headers[name] = kind + self.api_key.get_secret_value()
        return headers

    def address(self, path: str, query: Mapping[str, str]) -> str:
        """The whole address of an endpoint, without user name and password: those are among the headers."""
        query = {**self.query, **query}
        scheme, _, rest = self.base_url.partition("://")
        host, slash, prefix = rest.partition("/")
        root = f"{scheme}://{host.rpartition('@')[2]}{slash}{prefix}"
        return root + path + ("?" + urlencode(query) if query else "")


# The method that `dataclass` writes, whose frame would show the key.
ServerSettings.__init__ = hides_arguments(ServerSettings.__init__)  # type: ignore[method-assign]


def _login(base_url: str) -> str | None:
    """User name and password of an address as the header that a gateway wants."""
    parts = urlsplit(base_url)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode()
