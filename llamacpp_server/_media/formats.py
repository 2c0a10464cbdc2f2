"""Detect the format of media files from their first bytes, and convert formats that llama-server can't read.

The server reads images with stb_image and sound with miniaudio, whatever type a request claims (b11434,
`tools/mtmd/mtmd-helper.cpp`). Video goes to ffmpeg, which reads everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Final, Literal

from ..errors import BadRequestError

__all__ = ["Format", "format_of", "transcode"]

Family = Literal["image", "audio", "video", "document"]

HEAD: Final = 64
"""Bytes that `format_of` looks at."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format.

    Attributes:
        family: What it holds.
        mime_type: Its MIME type.
        taken: Whether the server reads it.
    """

    family: Family
    mime_type: str
    taken: bool = True


_PLAIN: Final = (
    (b"\xff\xd8\xff", Format("image", "image/jpeg")),
    (b"\x89PNG\r\n\x1a\n", Format("image", "image/png")),
    (b"GIF8", Format("image", "image/gif")),
    (b"II*\0", Format("image", "image/tiff", taken=False)),
    (b"MM\0*", Format("image", "image/tiff", taken=False)),
    (b"\0\0\1\0", Format("image", "image/x-icon", taken=False)),
    (b"\0\0\0\x0cjP  ", Format("image", "image/jp2", taken=False)),
    (b"<svg", Format("document", "image/svg+xml", taken=False)),
    (b"<?xml", Format("document", "text/xml", taken=False)),
    (b"<!DOCTYPE", Format("document", "text/html", taken=False)),
    (b"<html", Format("document", "text/html", taken=False)),
    (b"%PDF-", Format("document", "application/pdf", taken=False)),
    (b"fLaC", Format("audio", "audio/flac")),
    (b"ID3", Format("audio", "audio/mpeg")),
    (b"OggS", Format("audio", "audio/ogg", taken=False)),
    (b"#!AMR", Format("audio", "audio/amr", taken=False)),
    (b"FORM", Format("audio", "audio/aiff", taken=False)),
    (b"\x1aE\xdf\xa3", Format("video", "video/webm")),
)
_IN_RIFF: Final = {
    b"WEBP": Format("image", "image/webp", taken=False),
    b"WAVE": Format("audio", "audio/wav"),
    b"AVI ": Format("video", "video/x-msvideo"),
}
_BRANDS: Final = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), Format("image", "image/heic", taken=False)),
    **dict.fromkeys((b"avif", b"avis"), Format("image", "image/avif", taken=False)),
    **dict.fromkeys((b"M4A ", b"M4B "), Format("audio", "audio/mp4", taken=False)),
}
_OTHER_BRAND: Final = Format("video", "video/mp4")


def format_of(head: bytes) -> Format | None:
    """The format of a file that starts with these bytes; None if unknown."""
    for magic, found in _PLAIN:
        if head.startswith(magic):
            return found
    if head.startswith(b"RIFF"):
        return _IN_RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _OTHER_BRAND)
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return Format("image", "image/bmp")
    # A frame of MPEG audio: eleven bits set, and a layer that exists; layer 0 is AAC's.
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return Format("audio", "audio/mpeg") if head[1] & 0x06 else Format("audio", "audio/aac", taken=False)
    return None


# Four bytes each while it is converted. The largest pictures of cameras have about a hundred million.
_MOST_PIXELS: Final = 100_000_000


@lru_cache(maxsize=4)
def transcode(data: bytes, mime_type: str) -> tuple[bytes, str]:
    """An image in a format that the server reads, and its MIME type; the same bytes for the same image.

    JPEG where that is what photographs come in, PNG where something would be lost. It stands as it is to be looked at:
    the server ignores the orientation that cameras note. The last few are kept, because agents send them every turn.

    Raises:
        BadRequestError: When Pillow is not installed, or it can't read the image.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise BadRequestError(
            f"llama-server does not support {mime_type}",
            remedy="install Pillow to convert it (pip install pillow), or send JPEG or PNG",
        ) from None
    if mime_type == "image/heic":
        _learn_heic()
    try:
        with Image.open(BytesIO(data)) as opened:
            # Known from its head, before anything is decoded: 5 kB of TIFF can be a gigabyte of pixels.
            if opened.width * opened.height > _MOST_PIXELS:
                raise ValueError(
                    f"it has {opened.width} x {opened.height} pixels; at most {_MOST_PIXELS} can be converted"
                )
            image = ImageOps.exif_transpose(opened)
            photograph = image.mode in ("RGB", "YCbCr", "L", "CMYK") and mime_type != "image/tiff"
            written = BytesIO()
            if photograph:
                image.convert("RGB").save(written, "JPEG", quality=95, subsampling=0)
            else:
                image.convert("RGBA").save(written, "PNG")
    except (
        OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning
    ) as error:  # fmt: skip
        raise BadRequestError(f"can't read an image ({mime_type}): {error}") from error
    return written.getvalue(), "image/jpeg" if photograph else "image/png"


def _learn_heic() -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise BadRequestError(
            "llama-server does not support image/heic",
            remedy="install pillow-heif to convert it (pip install pillow-heif), or send JPEG or PNG",
        ) from None
    register_heif_opener()
