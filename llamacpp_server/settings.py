"""Connection settings: address, API key, timeouts and retries."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self, TypedDict, Unpack
from urllib.parse import quote, unquote, urlencode, urlsplit, urlunsplit

from pydantic import SecretStr

from ._frames import hides_arguments
from ._read_as import ReadAs, default_value
from .progress import Progress

__all__ = [
    "DEFAULT_BASE_URL",
    "UNNAMED",
    "ServerSettings",
    "SettingsChanges",
    "SettingsFields",
    "UnnamedAddress",
    "WaitState",
    "is_loopback",
    "normalize_base_url",
    "redact_url",
    "split_unix",
]

DEFAULT_BASE_URL: Final = "http://localhost:8080"


class UnnamedAddress(str):
    """The default address. If nothing listens there, the newer default port is tried."""

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
    """Argument of `on_wait`, which is called before each wait for the server.

    Attributes:
        reason: `loading`, `refused`, `busy` or `retry`; `slot` if requests of this process fill all slots of the
            server.
        elapsed: Seconds waited so far.
        budget: Seconds after which the wait ends in an error; None if attempts are counted instead, and for `slot`.
        url: The server, without credentials.
        over: Whether the wait has ended; a wait for a slot is reported at its start and at its end.
    """

    reason: str
    elapsed: float
    budget: float | None
    url: str
    over: bool = False


@hides_arguments
def normalize_base_url(base_url: str) -> str:
    """Reduce an address to the server's root: no `/v1`, endpoint or trailing slash; an `--api-prefix` is kept.

    Examples:
        >>> normalize_base_url("localhost:8080/v1/chat/completions/")
        'http://localhost:8080'
        >>> normalize_base_url("https://host/llama/v1")
        'https://host/llama'
        >>> normalize_base_url("unix:///run/llama.sock")
        'http+unix://%2Frun%2Fllama.sock'

    Raises:
        ValueError: If it contains no host.
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
    """Split an address into the one sent over HTTP and the path of its unix socket (None for a network address).

    Examples:
        >>> split_unix("http+unix://%2Frun%2Fllama.sock/v1/models")
        ('http://localhost/v1/models', '/run/llama.sock')
    """
    if not url.startswith(_UNIX):
        return url, None
    socket, _, path = url.removeprefix(_UNIX).partition("/")
    return f"http://localhost/{path}", unquote(socket)


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address means this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def redact_url(url: str) -> str:
    """Remove user name, password and query from an address, for messages and logs.

    A password may contain `/`, `?` or `#`, so everything before the last `@` is removed, unless there is no colon in
    it: `http://host/logo@2x.png` is shown.
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


class SettingsFields(TypedDict, total=False):
    """The fields of `ServerSettings` other than the address, as keywords for type checkers and editors."""

    api_key: SecretStr | str | None
    model: str | None
    connect_timeout: float | None
    read_timeout: float | None
    first_token_timeout: float | None
    total_timeout: float | None
    max_retries: int
    retry_read_timeout: bool
    load_timeout: float
    wait_while_loading: bool
    wait_while_refused: bool
    max_concurrency: int | Literal["slots"] | None
    priority: Literal["normal", "background"]
    headers: Mapping[str, str]
    query: Mapping[str, str]
    verify: bool | ssl.SSLContext
    on_wait: Callable[[WaitState], None] | None
    on_progress: Callable[[Progress], None] | None


class SettingsChanges(SettingsFields, total=False):
    """All fields of `ServerSettings`, as keywords for type checkers and editors."""

    base_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Connection settings: address, API key, timeouts (in seconds) and retries.

    Attributes:
        base_url: Address of the server: host, host/v1, an endpoint's address, one with an `--api-prefix`, or
            `unix:///run/llama.sock` for a server started with `--host /run/llama.sock`. If it is not given and nothing
            listens on port 8080, port 9931 is tried, the default of builds since autumn 2026.
        api_key: Key of a server started with `--api-key`; None sends none.
        model: Default model of requests that name none; only routers need it.
        connect_timeout: Timeout for opening a connection; None leaves it to the operating system.
        read_timeout: Maximum gap between two bytes; None waits forever. Queued requests receive no bytes.
        first_token_timeout: Maximum time from sending a request to the first token of its stream. It includes the
            server's queue and prompt processing, but not waits before the request is sent. `read_timeout` applies after
            the first token, and to replies that are not streamed. None applies `read_timeout` to the first token too.
        total_timeout: Maximum time for a whole request, including waits and retries, up to the last byte; None sets no
            limit. Only DNS lookups are left to the operating system's limits.
        max_retries: Maximum retries of a request, for failures where a retry can help. Waiting for a model to load does
            not count. If a layer above retries after these have failed, each of its attempts is sent once, so that
            retries add up and don't multiply.
        retry_read_timeout: Whether to retry after a `read_timeout` too. The server may still be processing the first
            attempt, so this can double its load.
        load_timeout: Maximum time to wait for a server that is loading or starting.
        wait_while_loading: Whether requests wait while the server loads its model.
        wait_while_refused: Whether requests wait for a server that is not listening yet (a cold start).
        max_concurrency: Maximum concurrent requests of this process: `slots` (the server's number of slots, read when a
            second request arrives; on a router, the slots of each model), a number, or None for no limit. If slots
            share one context, only requests that fit into it together run at once. The others wait in this process,
            first come, first served; conversations whose prompt is still in a slot go first, but no request waits
            forever. All spellings of a server's address share one limit.
        priority: `background` requests (titles, summaries) are sent only when no other request of this process is
            waiting.
        headers: Sent with every request.
        query: Query parameters of every request.
        verify: Certificate checks, as in httpx: True, False, or a custom `ssl.SSLContext`.
        on_wait: Called with a `WaitState` before each wait.
        on_progress: Called with the progress of waiting, loading and prompt processing. Chats and completions then send
            `return_progress`.
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
        """Create settings; those not given come from `LLAMACPP_BASE_URL`, `LLAMACPP_API_KEY` and `LLAMACPP_MODEL`.

        Args:
            environ: Environment variables; None uses those of the process.
            **given: Fields of this class. None for one of the three above means "not given".

        Raises:
            ValueError: For an invalid value.
        """
        environ = os.environ if environ is None else environ
        for name in ("base_url", "api_key", "model"):
            if given.get(name) is None:
                given.pop(name, None)
                if value := environ.get(f"LLAMACPP_{name.upper()}"):
                    given[name] = value
        return cls(**given)

    @hides_arguments
    def replace(self, **changes: Unpack[SettingsChanges]) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    def request_headers(self) -> dict[str, str]:
        """The headers of each request, including the key.

        If `base_url` has a user name (for a gateway), the key is also sent in the other header that llama-server reads.
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
        """Return the full address of an endpoint without user name and password, which are sent as a header."""
        query = {**self.query, **query}
        scheme, _, rest = self.base_url.partition("://")
        host, slash, prefix = rest.partition("/")
        root = f"{scheme}://{host.rpartition('@')[2]}{slash}{prefix}"
        return root + path + ("?" + urlencode(query, errors="replace") if query else "")


# The method that `dataclass` writes, whose frame would show the key.
ServerSettings.__init__ = hides_arguments(ServerSettings.__init__)  # type: ignore[method-assign]


def without_waits(settings: ServerSettings, read_timeout: float | None = None) -> ServerSettings:
    """The settings for a question that is asked once and never waits, of a server that may be loading or gone.

    Args:
        settings: Those of the client.
        read_timeout: Seconds for the answer; None leaves it as it is.
    """
    changes: dict[str, Any] = {} if read_timeout is None else {"read_timeout": read_timeout}
    return settings.replace(max_retries=0, wait_while_loading=False, wait_while_refused=False, **changes)


def _login(base_url: str) -> str | None:
    """User name and password of an address as the header that a gateway wants."""
    parts = urlsplit(base_url)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(pair.encode()).decode()
