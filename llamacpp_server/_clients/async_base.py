"""What all methods of the async client work with; see `async_client.py`."""

from __future__ import annotations

from ..settings import ServerSettings
from ..transport import AsyncTransport


class AsyncMethods:
    """Where the methods of a client send their requests."""

    settings: ServerSettings
    transport: AsyncTransport
