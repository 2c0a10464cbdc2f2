"""Parts of any shape, and beginnings of any file: an answer or a refusal that says why, and never another error."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llamacpp_server import BadRequestError, ChatRequest, LlamaServerError, MediaPolicy
from llamacpp_server._media import (
    format_of,
    holds_media,
    is_local_name,
    is_public,
    read_file,
    with_media,
)
from llamacpp_server.transport import (
    Work,
)
from tests.media import picture, sound

TYPES = ("image_url", "input_audio", "input_video", "video_url", "file", "text", "odd")
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
ADDRESSES = st.sampled_from(
    ("", "data:", "data:,x", "data:image/png;base64,", "file://", "file:///\0", "http://", "http://[", "//",
     "~nobody/x", "c:/x",
     "http://user:pw@host:99999/", "ftp://host", "data:;base64,%%%", "/etc/passwd", "\0")
)  # fmt: skip
SOURCES = ADDRESSES | ODD
INNER = ODD | st.fixed_dictionaries(
    {}, optional={"data": SOURCES, "url": SOURCES, "file_data": SOURCES, "filename": ODD}
)
PARTS = st.builds(lambda kind, inner: {"type": kind, kind: inner}, st.sampled_from(TYPES), INNER)


def run(program: Any) -> Any:
    """The result of a program that only computes."""
    result = None
    while True:
        try:
            effect = program.send(result)
        except StopIteration as stop:
            return stop.value
        assert isinstance(effect, Work), effect
        result = effect.function()


@given(parts=st.lists(PARTS | ODD, max_size=3), read=st.booleans())
@example(parts=[{"type": []}], read=False)
@example(parts=[{"type": "file", "file": {"file_data": "http://["}}], read=True)
def test_parts_of_any_shape_are_made_ready_or_refused(parts: list[Any], read: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": parts}]
    request = ChatRequest(messages=messages, media=MediaPolicy(read_files=["/no/such/directory"] if read else False))
    assert isinstance(holds_media(messages), bool)
    try:
        ready, _ = run(with_media(request))
    except LlamaServerError as error:
        assert "pw" not in str(error)
        return
    left = ready.messages[0]["content"]
    assert isinstance(left, str) or not any(part.get("type") == "file" for part in left if isinstance(part, dict))
    assert messages == [{"role": "user", "content": parts}], "the caller's own are left alone"


@given(head=st.binary(max_size=64))
def test_any_beginning_of_a_file_has_one_format_or_none(head: bytes) -> None:
    found = format_of(head)
    assert found is None or found.mime_type.count("/") == 1


@pytest.mark.parametrize(
    ("data", "mime_type", "taken"),
    [
        (picture("red", "PNG"), "image/png", True),
        (picture("red", "JPEG"), "image/jpeg", True),
        (picture("red", "GIF"), "image/gif", True),
        (picture("red", "BMP"), "image/bmp", True),
        (picture("red", "WEBP"), "image/webp", False),
        (picture("red", "TIFF"), "image/tiff", False),
        (picture("red", "AVIF"), "image/avif", False),
        (sound(), "audio/wav", True),
        (b"ID3\x04\0", "audio/mpeg", True),
        (b"\xff\xfb\x90\x00", "audio/mpeg", True),
        (b"\xff\xf1\x50\x80", "audio/aac", False),
        (b"fLaC\0", "audio/flac", True),
        (b"OggS\0", "audio/ogg", False),
        (b"FORM\0\0\0\0AIFF", "audio/aiff", False),
        (b"\0\0\0\x18ftypM4A ", "audio/mp4", False),
        (b"\0\0\0\x18ftypisom", "video/mp4", True),
        (b"RIFF\0\0\0\0AVI ", "video/x-msvideo", True),
        (b"\x1aE\xdf\xa3", "video/webm", True),
    ],
)
def test_formats_are_recognized_by_their_first_bytes(data: bytes, mime_type: str, taken: bool) -> None:
    found = format_of(data[:64])
    assert found is not None
    assert (found.mime_type, found.taken) == (mime_type, taken)


def test_pictures_with_the_same_beginning_are_not_mixed_up() -> None:
    assert format_of(b"BM is how this text begins") is None
    assert format_of(b"RIFF\0\0\0\0????") is None


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.5.4", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("2002:808:808::", True),
        ("64:ff9b::808:808", True),
        ("::ffff:8.8.8.8", True),
        ("2a00:1450:4001::1", True),
        ("::127.0.0.1", False),
        ("::8.8.8.8", False),
        ("::", False),
        ("::ffff:0:127.0.0.1", False),
        ("64:ff9b:1::7f00:1", False),
        ("2001::7f00:1", False),
        ("2001:2::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("100::1", False),
        ("fec0::1", False),
        ("fd00:ec2::254", False),
        ("ff02::1", False),
        ("4000::1", False),
        ("192.0.0.192", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("198.51.100.1", False),
        ("203.0.113.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("239.1.1.1", False),
        ("100.100.100.200", False),
        ("168.63.129.16", False),
    ],
)
def test_private_addresses_are_known(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_refusal_of_a_file_does_not_show_the_data() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,!" + "x" * 5000}}
    with pytest.raises(BadRequestError) as caught:
        run(with_media(ChatRequest(messages=[{"role": "user", "content": [part]}])))  # type: ignore[list-item]
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("host", ["db", "metadata.google.internal", "printer.LOCAL", "nas.home.arpa.", "localhost."])
def test_names_of_private_networks_are_known(host: str) -> None:
    assert is_local_name(host)
    assert not is_local_name("images.example.com")
    assert not is_local_name("local.example.com")


# -- local files


def test_a_link_that_is_swapped_in_between_does_not_lead_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, secret = tmp_path / "in", tmp_path / "secret"
    (inside / "folder").mkdir(parents=True)
    secret.mkdir()
    (inside / "folder" / "a.txt").write_text("mine")
    (secret / "a.txt").write_text("secret")
    resolve = Path.resolve

    def swapped(how: str) -> Callable[..., Path]:
        def then_swap(path: Path, strict: bool = False) -> Path:
            found = resolve(path, strict)
            if found.name == "a.txt" and not (inside / "folder").is_symlink():
                if how == "folder":
                    (inside / "folder").rename(tmp_path / "moved")
                    (inside / "folder").symlink_to(secret)
                else:
                    found.unlink()
                    found.symlink_to(secret / "a.txt")
            return found

        return then_swap

    assert read_file(inside / "folder" / "a.txt", [inside], 99, "here") == b"mine"
    for how in ("folder", "file"):
        if (inside / "folder").is_symlink():
            (inside / "folder").unlink()
            (tmp_path / "moved").rename(inside / "folder")
        with monkeypatch.context() as patch, pytest.raises(BadRequestError, match="can't read"):
            patch.setattr(Path, "resolve", swapped(how))
            read_file(inside / "folder" / "a.txt", [inside], 99, "here")


@pytest.mark.parametrize("anywhere", [True, False])
def test_special_files_are_refused_without_waiting(tmp_path: Path, anywhere: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkdir(tmp_path / "folder")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    roots = None if anywhere else [tmp_path]
    for name in ("pipe", "folder", "socket"):
        with pytest.raises(BadRequestError, match=r"is not a file|can't read"):
            read_file(tmp_path / name, roots, 99, "here")
    for device in ("/dev/zero", "/dev/null", "/dev/tty"):
        with pytest.raises(BadRequestError, match=r"is not a file|can't read"):
            read_file(Path(device), None if anywhere else [Path("/dev")], 99, "here")


def test_a_file_that_hides_its_size_is_still_limited(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(bytes(100))
    assert read_file(tmp_path / "long", [tmp_path], 100, "here") == bytes(100)
    with pytest.raises(BadRequestError, match="larger than 99 bytes"):
        read_file(tmp_path / "long", [tmp_path], 99, "here")
    with pytest.raises(BadRequestError, match="larger than 9 bytes"):
        read_file(Path("/proc/self/status"), None, 9, "here")
