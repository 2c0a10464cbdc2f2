"""Images, audio and video of messages: read, checked and converted to formats that the server supports.

`info` knows which media the model supports. The input is messages with URLs, paths and data; the result is messages
with data that the server reads, and a `Repair` for each conversion. URLs are fetched through `transport`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .formats import format_of as format_of
    from .formats import transcode as transcode
    from .hosts import addresses_of as addresses_of
    from .hosts import is_local_name as is_local_name
    from .hosts import is_public as is_public
    from .local_files import read_file as read_file
    from .parts import holds_media as holds_media
    from .parts import media_parts as media_parts
    from .parts import with_media as with_media

__getattr__, __dir__ = lazy(
    __name__,
    {
        "formats": ("format_of", "transcode"),
        "hosts": ("addresses_of", "is_local_name", "is_public"),
        "local_files": ("read_file",),
        "parts": ("holds_media", "media_parts", "with_media"),
    },
)
