"""Base class of the async client's methods; see `async_client.py`."""

from __future__ import annotations

from ..settings import ServerSettings
from ..transport import AsyncTransport


class AsyncMethods:
    """Base class of the client's methods: sends their requests."""

    settings: ServerSettings
    transport: AsyncTransport
