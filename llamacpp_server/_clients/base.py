"""What all methods of the blocking client work with; generated."""

from __future__ import annotations

from ..settings import ServerSettings
from ..transport import Transport


class Methods:
    """Where the methods of a client send their requests."""

    settings: ServerSettings
    transport: Transport
