"""Connection fields, which every model class of both adapters inherits besides `SamplingFields`.

Values derived from them, such as the client, are kept as long as the fields are unchanged.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, Literal, Self, TypeVar, cast

import httpx
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_serializer,
    model_validator,
)

from .._frames import hides_arguments
from .._read_as import ReadAs, default_value
from ..info import ServerInfo
from ..progress import Progress
from ..requests import MediaPolicy
from ..settings import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_LOAD_TIMEOUT,
    DEFAULT_MAX_RETRIES,
    DEFAULT_READ_TIMEOUT,
    UNNAMED,
    ServerSettings,
    WaitState,
    redact_url,
)
from .argument_names import Key
from .given_clients import AsyncClientField, ClientField, GivenAsyncClient, GivenClient
from .redaction import redacted
from .tokenizer import LlamaServerTokenizer

if TYPE_CHECKING:
    from ..async_client import AsyncLlamaServerClient
    from ..client import LlamaServerClient
    from ..transport import (
        AsyncTransport,
        Transport,
    )
else:  # hints resolve at runtime too, and the import of the classes stays quick
    AsyncLlamaServerClient = LlamaServerClient = AsyncTransport = Transport = Any

T = TypeVar("T")

# The fields of `ConnectionFields` that become settings of a client, by their names there.
_SETTINGS: Final = (
    *("base_url", "api_key", "model", "connect_timeout", "read_timeout", "first_token_timeout", "total_timeout"),
    *("max_retries", "retry_read_timeout", "load_timeout", "wait_while_loading", "wait_while_refused"),
    *("max_concurrency", "priority", "verify", "on_wait", "on_progress"),
)
_of_settings: Final = itemgetter(*_SETTINGS)


class Kept(Generic[T]):
    """One value and what it was made from. Copies and pickles of a model begin with an empty one."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[object, T] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def __copy__(self) -> Self:
        return type(self)()

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The value that was made from an equal key, else a new one. A race of threads makes it twice, no more."""
        last = self._last
        if last is not None and last[0] == key:
            return last[1]
        made = make()
        self._last = key, made
        return made


class _State:
    """Values of fields, compared and not shown: some are secrets, and tracebacks show variables."""

    __slots__ = ("_values",)

    def __init__(self, *values: object) -> None:
        self._values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _State) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # what can be changed in place has none


def settings_key(fields: Mapping[str, Any]) -> object:
    """Current values that a model's settings depend on; headers and queries may be changed in place.

    Args:
        fields: The model's `__dict__`.
    """
    headers, query = fields["default_headers"], fields["default_query"]
    # Equal addresses may differ in whether somebody gave them.
    return _State(_of_settings(fields), type(fields["base_url"]), dict(headers), dict(query))


__all__ = ["ConnectionFields", "MediaFields", "on_event_loop"]


# A question that is not repeated.
_ONCE: Final[dict[str, Any]] = {"max_retries": 0, "wait_while_loading": False}


def _load_client() -> None:
    """Import what a call needs when a model is made, before there are threads that ask it.

    A child that is forked while a thread is in the middle of an import inherits its half and its lock, and hangs.
    """
    from .. import async_client, client  # noqa: F401 (not with the classes, whose import is quick)
    from ..transport import Transport

    Transport()


_private: Final[Callable[[BaseModel], dict[str, Any]]] = attrgetter("__pydantic_private__")
"""The private attributes of a model. Each call reads several; pydantic's own way to one takes two functions."""


def _new_transport(http_client: httpx.Client | None) -> Transport:
    from ..transport import Transport  # not before the server is asked for something

    return Transport(http_client)


def _new_async_transport(http_client: httpx.AsyncClient | None) -> AsyncTransport:
    from ..transport import AsyncTransport

    return AsyncTransport(http_client)


def _new_client(settings: ServerSettings, transport: Transport) -> LlamaServerClient:
    from ..client import LlamaServerClient

    return LlamaServerClient(settings=settings, transport=transport)


def _new_async_client(settings: ServerSettings, transport: AsyncTransport) -> AsyncLlamaServerClient:
    from ..async_client import AsyncLlamaServerClient

    return AsyncLlamaServerClient(settings=settings, transport=transport)


def on_event_loop() -> bool:
    """Whether an event loop runs in this thread, so that nothing may block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _base_url_from_env() -> Any:
    return os.environ.get("LLAMACPP_BASE_URL") or UNNAMED


def _secret_from_env() -> Any:
    key = os.environ.get("LLAMACPP_API_KEY")
    return SecretStr(key) if key else None


class ConnectionFields(BaseModel):
    """Connection fields: address, API key, timeouts (in seconds) and retries. See `ServerSettings` for each.

    Construction does not access the network. Connections are opened on first use, shared by copies of a model, and left
    out of pickles. Fields may be changed at any time and apply to the next request. Dumps (`model_dump`) contain no
    secrets: neither the key, nor headers and query parameters, nor credentials in the address.
    """

    # Only its subclasses are ever made, so pydantic need not build this one.
    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), defer_build=True)

    base_url: ReadAs[str, str | None] = Field(default_factory=_base_url_from_env)
    """Address of the server: host, host/v1, or with an --api-prefix. Default from LLAMACPP_BASE_URL."""
    api_key: Key = Field(default_factory=_secret_from_env, exclude=True)
    """Key of a server started with --api-key; None sends none. Default from LLAMACPP_API_KEY."""
    model: str | None = Field(default_factory=lambda: os.environ.get("LLAMACPP_MODEL") or None)
    """Name of the model. Only routers need it. Default from LLAMACPP_MODEL."""
    connect_timeout: float | None = Field(default=DEFAULT_CONNECT_TIMEOUT, ge=0)
    """Timeout for opening a connection, in seconds."""
    read_timeout: float | None = Field(default=DEFAULT_READ_TIMEOUT, ge=0)
    """Maximum gap between two bytes, in seconds; None waits forever."""
    first_token_timeout: float | None = Field(default=None, ge=0)
    """Maximum seconds to a stream's first token, including the server's queue and the prompt; None: `read_timeout`."""
    total_timeout: float | None = Field(default=None, ge=0)
    """Maximum seconds for a whole request, including waits and retries; None sets no limit."""
    max_retries: ReadAs[int, int | None] = Field(default=default_value(DEFAULT_MAX_RETRIES), ge=0)
    """Maximum retries of a request, for failures where a retry can help."""
    retry_read_timeout: bool = False
    """Whether to retry after a `read_timeout` too."""
    load_timeout: float = Field(default=DEFAULT_LOAD_TIMEOUT, ge=0)
    """Maximum seconds to wait for a model to load."""
    wait_while_loading: bool = True
    """Whether requests wait while the server loads its model."""
    wait_while_refused: bool = False
    """Whether requests wait for a server that is not listening yet."""
    max_concurrency: Annotated[int, Field(ge=1)] | Literal["slots"] | None = "slots"
    """Maximum concurrent requests of this process: a number, the server's `slots`, or None for no limit."""
    priority: Literal["normal", "background"] = "normal"
    """`background` requests (titles, summaries) are sent only when no other request of this process is waiting."""
    default_headers: ReadAs[dict[str, str], Mapping[str, str] | None] = Field(
        default_factory=default_value(dict), exclude=True, repr=False
    )
    """Headers of each request."""
    default_query: ReadAs[dict[str, str], Mapping[str, Any] | None] = Field(
        default_factory=default_value(dict), exclude=True, repr=False
    )
    """Query parameters of each request."""
    verify: Any = Field(default=True, exclude=True, repr=False)
    """Certificate checks: True, False, or a custom `ssl.SSLContext`."""
    on_wait: Callable[[WaitState], None] | None = Field(default=None, exclude=True, repr=False)
    """Called before each wait."""
    on_progress: Callable[[Progress], None] | None = Field(default=None, exclude=True, repr=False)
    """Called with the progress of waiting, loading and prompt processing, such as `ProgressBar()`."""
    http_client: ReadAs[ClientField, GivenClient] = Field(default=default_value(None), exclude=True, repr=False)
    """Custom client for blocking calls; never closed by this package."""
    http_async_client: ReadAs[AsyncClientField, GivenAsyncClient] = Field(
        default=default_value(None), exclude=True, repr=False
    )
    """Custom client for async calls; never closed by this package."""

    # Without annotations: editors (jedi) offer each annotated name of a class as an argument of its constructor.
    _transport = cast("Transport | None", PrivateAttr(default_factory=_load_client))
    _async_transport = cast("AsyncTransport | None", PrivateAttr(default=None))
    _client = cast("Kept[LlamaServerClient]", PrivateAttr(default_factory=Kept))
    _async_client = cast("Kept[AsyncLlamaServerClient]", PrivateAttr(default_factory=Kept))
    _info = cast("tuple[Any, ServerInfo] | None", PrivateAttr(default=None))
    _rests = cast("tuple[Any, float]", PrivateAttr(default=(None, 0.0)))
    _tokenizers = cast("dict[Any, LlamaServerTokenizer]", PrivateAttr(default_factory=dict))

    @hides_arguments
    def __init__(self, /, **data: Any) -> None:
        super().__init__(**data)

    @model_validator(mode="wrap")
    @classmethod
    def _without_secrets(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise redacted(error) from None

    def server_settings(self) -> ServerSettings:
        """Return the fields as settings of a client.

        Raises:
            ValueError: For an invalid base URL or header.
        """
        return ServerSettings(
            base_url=self.base_url,
            api_key=self.api_key,
            model=self.model,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            first_token_timeout=self.first_token_timeout,
            total_timeout=self.total_timeout,
            max_retries=self.max_retries,
            retry_read_timeout=self.retry_read_timeout,
            load_timeout=self.load_timeout,
            wait_while_loading=self.wait_while_loading,
            wait_while_refused=self.wait_while_refused,
            max_concurrency=self.max_concurrency,
            priority=self.priority,
            headers=self.default_headers,
            query=self.default_query,
            verify=self.verify,
            on_wait=self.on_wait,
            on_progress=self.on_progress,
        )

    def _settings_key(self) -> object:
        """Values that `server_settings` depends on; a class with further dependencies adds them."""
        return settings_key(self.__dict__)

    @property
    def client(self) -> LlamaServerClient:
        """A blocking client of the server, with all endpoints, using this model's connections."""
        private = _private(self)
        transport = private["_transport"]
        if transport is None or not transport.uses(self.http_client):
            transport = private["_transport"] = _new_transport(self.http_client)
        kept: Kept[LlamaServerClient] = private["_client"]
        return kept.get((self._settings_key(), transport), lambda: _new_client(self.server_settings(), transport))

    @property
    def async_client(self) -> AsyncLlamaServerClient:
        """An async client of the server, with all endpoints, using this model's connections."""
        private = _private(self)
        transport = private["_async_transport"]
        if transport is None or not transport.uses(self.http_async_client):
            transport = private["_async_transport"] = _new_async_transport(self.http_async_client)
        kept: Kept[AsyncLlamaServerClient] = private["_async_client"]
        return kept.get((self._settings_key(), transport), lambda: _new_async_client(self.server_settings(), transport))

    def server_info(self, *, refresh: bool = False) -> ServerInfo:
        """Return the capabilities of the server and its model; cached for each address and model.

        Args:
            refresh: Whether to query again, such as after a restart with other flags.

        Raises:
            LlamaServerError: If the server can't be queried; nothing is cached then.
        """
        known = None if refresh else self.known_server_info()
        if known is None:
            client = self.client
            # Of a crowd that starts at once, one asks.
            with client.transport.turn():
                known = None if refresh else self.known_server_info()
                return known or self._remember(client.info())
        return known

    async def aserver_info(self, *, refresh: bool = False) -> ServerInfo:
        """Async version of `server_info`."""
        known = None if refresh else self.known_server_info()
        if known is None:
            client = self.async_client
            async with client.transport.turn():
                known = None if refresh else self.known_server_info()
                return known or self._remember(await client.info())
        return known

    def quick_server_info(self, *, rest: float = 0.0, **limits: Any) -> ServerInfo | None:
        """Return known facts about the server, or query them quickly; concurrent calls share one query.

        Args:
            rest: After a failure, the server is not queried again for this many times the duration of the failed query;
                None is returned meanwhile.
            **limits: Settings of the query, such as `read_timeout`. It is not retried and does not wait for a model.

        Raises:
            LlamaServerError: If the server can't be queried.
        """
        if (known := self.known_server_info()) is not None or self._is_resting():
            return known
        started, client = time.monotonic(), self.client
        try:
            with client.transport.turn():
                if (known := self.known_server_info()) is not None or self._is_resting():
                    return known
                started = time.monotonic()
                return self._remember(client.with_settings(**_ONCE, **limits).info())
        except Exception:
            self._rest_after(started, rest)
            raise

    async def aquick_server_info(self, *, rest: float = 0.0, **limits: Any) -> ServerInfo | None:
        """Async version of `quick_server_info`."""
        if (known := self.known_server_info()) is not None or self._is_resting():
            return known
        started, client = time.monotonic(), self.async_client
        try:
            async with client.transport.turn():
                if (known := self.known_server_info()) is not None or self._is_resting():
                    return known
                started = time.monotonic()
                return self._remember(await client.with_settings(**_ONCE, **limits).info())
        except Exception:
            self._rest_after(started, rest)
            raise

    def known_server_info(self) -> ServerInfo | None:
        """Return known facts about the server and its model without a request; None if it was not queried yet."""
        info: tuple[Any, ServerInfo] | None = _private(self)["_info"]
        return info[1] if info is not None and info[0] == (self.base_url, self.model) else None

    @property
    def tokenizer(self) -> LlamaServerTokenizer:
        """The tokenizer of this server and model, with a cache: callable, with `count`, `encode` and `decode`."""
        return self._tokenizers.setdefault(self._info_key(), LlamaServerTokenizer(self.client))

    def close(self) -> None:
        """Close the connections of blocking calls; the model can be used again afterwards."""
        if self._transport is not None:
            self._transport.close()

    async def aclose(self) -> None:
        """Close the connections of this event loop and of blocking calls; the model can be used again afterwards."""
        if self._async_transport is not None:
            await self._async_transport.aclose()
        self.close()

    @field_serializer("base_url")
    def _without_credentials(self, base_url: str) -> str:
        return redact_url(base_url)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redact_url(value) if name == "base_url" else value

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy of its own, except for connections and TLS settings of yours: those can't be copied."""
        memo = {} if memo is None else memo
        for shared in (self.http_client, self.http_async_client, self.verify):
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)

    def _remember(self, info: ServerInfo) -> ServerInfo:
        # Of a model that a router has not loaded yet, little is known: ask again next time.
        if info.n_ctx is not None or not info.is_router:
            self._info = (self._info_key(), info)
        return info

    def _info_key(self) -> tuple[str, str | None]:
        return self.base_url, self.model

    def _is_resting(self) -> bool:
        key, until = _private(self)["_rests"]
        return key is not None and key == (self.base_url, self.model) and time.monotonic() < until

    def _rest_after(self, started: float, rest: float) -> None:
        now = time.monotonic()
        self._rests = (self._info_key(), now + rest * (now - started))


_OF_MEDIA: Final = ("read_files", "fetch_urls", "convert_media")
_REFUSING: Final = MediaPolicy()
_NO_MEDIA_GIVEN: Final = {name: getattr(_REFUSING, name) for name in _OF_MEDIA}


class MediaFields(BaseModel):
    """Controls which local files and URLs in messages may be read, per model and per call. See docs/multimodal.md."""

    read_files: ReadAs[
        bool | Literal["server"] | list[str | Path], bool | Literal["server"] | Sequence[str | Path] | None
    ] = default_value(False)
    """Local files that may be read for messages: True for any, a list of directories for those within, `server` to
    leave `file://` addresses to the server (--media-path). False refuses them.
    """
    fetch_urls: ReadAs[bool | Literal["server"] | list[str], bool | Literal["server"] | Sequence[str] | None] = (
        default_value(False)
    )
    """HTTP(S) addresses that may be fetched for messages: True for public hosts, a list of host names for those,
    `server` to have the server fetch them. False refuses them.
    """
    convert_media: bool = True
    """Whether to convert images that the server can't read (needs Pillow), and to refuse those that can't be
    converted."""

    def media_policy(self, call: dict[str, Any] | None = None) -> MediaPolicy:
        """Combine the media fields with those of a call, which are removed from it."""
        call = {} if call is None else call
        given = {name: call.pop(name, getattr(self, name)) for name in _OF_MEDIA}
        if given == _NO_MEDIA_GIVEN:
            return _REFUSING
        if isinstance(files := given["read_files"], list | tuple):
            given["read_files"] = [str(directory) for directory in files]
        return MediaPolicy(**given)
