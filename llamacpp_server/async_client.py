"""The async client: one method for each endpoint of llama-server. `client.py` is generated from it.

To change a method, change it here and run `python scripts/generate_client.py`.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, Self, Unpack

from ._batch import BatchSummary, arun_batch
from ._clients import AsyncGeneration, AsyncInputs, AsyncManagement
from ._frames import hides_arguments
from .settings import ServerSettings, SettingsChanges, SettingsFields
from .transport import (
    AsyncTransport,
)

if TYPE_CHECKING:
    from httpx import AsyncClient
else:  # hints resolve at runtime too
    AsyncClient = Any

FilePath = str | os.PathLike[str]

__all__ = ["AsyncLlamaServerClient"]


class AsyncLlamaServerClient(AsyncGeneration, AsyncManagement, AsyncInputs):
    """Async client of llama-server, for asyncio and trio; can be used in one event loop after another.

    Examples:
        >>> async with AsyncLlamaServerClient("http://localhost:8080") as client:  # doctest: +SKIP
        ...     async for delta in client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}])):
        ...         print(delta.content, end="")

    Args:
        base_url: Address of the server; None uses `LLAMACPP_BASE_URL`, else http://localhost:8080, or port 9931 if
            nothing listens on 8080.
        settings: All settings at once.
        http_client: Custom HTTP client; never closed by this package.
        transport: Connections to share with other clients.
        **fields: Single fields of `ServerSettings`, such as `api_key` and `read_timeout`.

    Attributes:
        settings: The connection settings.
        transport: The connections; give them to other clients to share them.

    Every method raises subclasses of `LlamaServerError`.
    """

    @hides_arguments
    def __init__(
        self,
        base_url: str | None = None,
        *,
        settings: ServerSettings | None = None,
        http_client: AsyncClient | None = None,
        transport: AsyncTransport | None = None,
        **fields: Unpack[SettingsFields],
    ) -> None:
        if settings is None:
            settings = ServerSettings.from_env(base_url=base_url, **fields)
        elif base_url is not None or fields:
            given = fields if base_url is None else {"base_url": base_url, **fields}
            settings = settings.replace(**given)
        self.settings = settings
        self.transport = transport or AsyncTransport(http_client)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings!r})"

    @hides_arguments
    def with_settings(self, **changes: Unpack[SettingsChanges]) -> Self:
        """Return a client with some settings changed that shares this one's connections."""
        other = copy.copy(self)
        other.settings = self.settings.replace(**changes)
        return other

    async def aclose(self) -> None:
        """Close the connections of this event loop; a custom `http_client` stays open. Usable again afterwards."""
        await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    # -- many requests

    @hides_arguments
    async def batch_file(
        self, source: FilePath, output: FilePath, *, concurrency: int | None = None, **options: Any
    ) -> BatchSummary:
        """Send a file of requests, one JSON object per line, and write the replies to another; resumes a stopped job.

        Args:
            source: Chats, completions or embeddings, in OpenAI's batch format or as objects with `id` and fields.
            output: Receives a line for each reply as it arrives. Requests that already have a line are not sent again.
            concurrency: Maximum concurrent requests; None uses the server's number of slots.
            **options: `retry_errors=True` retries failed requests, `on_progress` is called with a `BatchProgress`.

        Raises:
            BadRequestError: For a line that is not a request, or the output of another job; nothing has been sent.
            ConnectionFailedError: If the server is gone. Replies received before are in the output.
        """
        return await arun_batch(self, source, output, concurrency=concurrency, **options)
