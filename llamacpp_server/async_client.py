"""The async client: one method for each endpoint of llama-server. `client.py` is generated from it.

To change a method, change it here and run `python scripts/generate_client.py`.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any, Self

from ._batch import BatchSummary, arun_batch
from ._clients import AsyncGeneration, AsyncInputs, AsyncManagement
from ._frames import hides_arguments
from .settings import ServerSettings
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
    """An async client of llama-server, for asyncio and trio. Works in one event loop after another.

    Examples:
        >>> async with AsyncLlamaServerClient("http://localhost:8080") as client:  # doctest: +SKIP
        ...     async for delta in client.stream_chat(ChatRequest(messages=[{"role": "user", "content": "Hello"}])):
        ...         print(delta.content, end="")

    Args:
        base_url: Address of the server; None means `LLAMACPP_BASE_URL`, else http://localhost:8080, or port 9931 where
            nothing listens at 8080.
        settings: All settings at once.
        http_client: Used instead of connections of our own, and never closed by us.
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
        **fields: Any,
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
    def with_settings(self, **changes: Any) -> Self:
        """A client with some settings changed that shares this one's connections."""
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
        """Answer a file of requests, one JSON object a line, into another; a job that was stopped goes on.

        Args:
            source: Chats, completions, embeddings, in OpenAI's batch form or as an object of `id` and fields.
            output: Gets a line for each answer as it comes. What it has already is not sent again.
            concurrency: Requests at once; None takes the server's slots.
            **options: `retry_errors=True` repeats what failed, `on_progress` is called with a `BatchProgress`.

        Raises:
            BadRequestError: For a line that is no request, or an output of another job; nothing was sent then.
            ConnectionFailedError: When the server is gone. What was answered is in the file.
        """
        return await arun_batch(self, source, output, concurrency=concurrency, **options)
