"""Base class of the blocking client's methods; generated."""

from __future__ import annotations

from ..settings import ServerSettings
from ..transport import Transport


class Methods:
    """Base class of the client's methods: sends their requests."""

    settings: ServerSettings
    transport: Transport
