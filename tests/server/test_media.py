"""Media of messages: what is sent to a server with eyes and ears, and what is read, fetched, converted and refused."""

import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import (
    AsyncLlamaServerClient,
    BadRequestError,
    ChatRequest,
    ConnectionFailedError,
    EmbedRequest,
    LlamaServerClient,
    LlamaServerError,
    LocalServer,
    MediaPolicy,
)
from llamacpp_server._media import addresses_of, transcode
from llamacpp_server.vectors import image_input
from tests import behind_doors
from tests.media import Web, picture, sound, web_server
from tests.models import build_random

ONE_TOKEN = {"max_tokens": 1, "temperature": 0, "logprobs": True, "top_logprobs": 5}
LOCAL = ["127.0.0.1", "localhost"]


def image(source: bytes | str, claimed: str = "image/png") -> dict[str, Any]:
    url = source if isinstance(source, str) else f"data:{claimed};base64,{b64encode(source).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def audio(source: bytes | str) -> dict[str, Any]:
    inner = {"url": source} if isinstance(source, str) else {"data": b64encode(source).decode()}
    return {"type": "input_audio", "input_audio": inner}


def asking(*parts: Any, role: str = "user", **media: Any) -> ChatRequest:
    content = [{"type": "text", "text": "What is it?"}, *parts]
    return ChatRequest(
        messages=[{"role": role, "content": content}],  # type: ignore[typeddict-item]
        params=ONE_TOKEN,
        media=MediaPolicy(**media),
    )


@pytest.fixture
def client(vision_server: LocalServer) -> Iterator[LlamaServerClient]:
    with LlamaServerClient(vision_server.base_url, api_key="sk-secret", headers={"X-Mine": "secret"}) as client:
        yield client


@pytest.fixture
def web() -> Iterator[Web]:
    with web_server() as web:
        web.files = {
            "/red.png": ("image/png", picture("red")),
            "/sound.wav": ("application/octet-stream", sound()),
            "/photo.webp": ("image/webp", picture("red", "WEBP")),
            "/notes.txt": ("text/plain; charset=utf-8", b"The code is 4711."),
            "/page.html": ("text/html; charset=utf-8", b"<html>Log in, please.</html>"),
            "/big.png": ("image/png", picture("red") + bytes(5000)),
        }
        web.redirects = {"/moved": "/red.png", "/round": "/round", "/out": "http://192.168.7.7/a.png"}
        yield web


def seen(client: LlamaServerClient, *parts: Any, **media: Any) -> tuple[int, float]:
    """What makes an image for the model: tokens of the prompt, and how likely the first token is after it."""
    reply = client.chat(asking(*parts, **media))
    assert reply.usage is not None and reply.logprobs is not None
    return reply.usage.prompt_tokens, round(reply.logprobs["content"][0]["logprob"], 4)


# -- data


def test_images_and_audio_reach_the_model(client: LlamaServerClient) -> None:
    nothing, red, blue = seen(client), seen(client, image(picture("red"))), seen(client, image(picture("blue")))
    assert nothing[0] < red[0] == blue[0]
    assert red[1] != blue[1]
    high, low = seen(client, audio(sound(10))), seen(client, audio(sound(80)))
    assert nothing[0] < high[0] == low[0]
    assert high[1] != low[1]


@pytest.mark.parametrize(
    "same",
    [
        image(picture("red"), "application/octet-stream"),
        image(b64encode(picture("red")).decode()),
        {"type": "image_url", "image_url": "data:image/png;base64," + b64encode(picture("red")).decode()},
        image("data:image/png;base64," + b64encode(picture("red")).decode().replace("A", "A\n")),
        {"type": "file", "file": {"file_data": "data:image/png;base64," + b64encode(picture("red")).decode()}},
        image(picture("red"), "image/webp"),
    ],
)
def test_the_same_image_is_the_same_however_it_is_written(client: LlamaServerClient, same: Any) -> None:
    assert seen(client, same) == seen(client, image(picture("red")))


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "AVIF"])
async def test_an_image_that_the_server_can_not_read_is_converted_and_reported(
    client: LlamaServerClient, kind: str, caplog: pytest.LogCaptureFixture, fresh_notices: set[str]
) -> None:
    request = asking(image(picture("red", kind)))
    reply = client.chat(request)
    (repair,) = reply.start.repairs
    assert (repair.name, repair.where) == ("media_format", "messages[0].content[1]")
    assert kind.lower() in repair.what
    client.chat(request)
    assert caplog.text.count("does not support") == 1
    assert reply.usage is not None
    assert client.count_tokens(request) == reply.usage.prompt_tokens
    async with AsyncLlamaServerClient(settings=client.settings) as other:
        assert (await other.chat(request)).start.repairs == (repair,)
        assert await other.count_tokens(request) == reply.usage.prompt_tokens
    with pytest.raises(BadRequestError, match="Failed to load image"):
        client.chat(asking(image(picture("red", kind)), convert_media=False))


def test_heic_is_converted_where_the_package_for_it_is(client: LlamaServerClient) -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="HEIC needs pillow-heif, which is optional")
    pillow_heif.register_heif_opener()
    assert client.chat(asking(image(picture("red", "HEIF")))).start.repairs[0].name == "media_format"


def test_what_a_conversion_would_lose_is_kept() -> None:
    assert transcode(picture("red", "WEBP"), "image/webp")[1] == "image/jpeg"
    assert transcode(picture("#ff000080", "WEBP", "RGBA"), "image/webp")[1] == "image/png"
    assert transcode(picture("red", "TIFF"), "image/tiff") == transcode(picture("red", "TIFF"), "image/tiff")
    with pytest.raises(BadRequestError, match="can't read"):
        transcode(b"RIFF\0\0\0\0WEBPVP8 ", "image/webp")


@pytest.mark.parametrize(("lacking", "kind", "words"), [("PIL", "WEBP", "install Pillow"),
                                                         ("pillow_heif", "HEIC", "install pillow-heif")])  # fmt: skip
def test_without_pillow_it_is_refused_and_the_remedy_named(
    client: LlamaServerClient, monkeypatch: pytest.MonkeyPatch, lacking: str, kind: str, words: str
) -> None:
    data = picture("red", "WEBP") if kind == "WEBP" else b"\0\0\0\x18ftypheic" + bytes(40)
    monkeypatch.setitem(sys.modules, lacking, None)
    transcode.cache_clear()
    with pytest.raises(BadRequestError, match=kind.lower()) as caught:
        client.chat(asking(image(data)))
    assert words in (caught.value.remedy or "")
    assert caught.value.status is None, "it was not sent"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (audio(b"OggS" + bytes(60)), "audio/ogg, which llama-server can't read.*WAV, MP3 or FLAC"),
        (audio(b"\0\0\0\x18ftypM4A " + bytes(40)), "audio/mp4, which"),
        (audio(picture()), "the audio .* is image/png"),
        (image(b"%PDF-1.7 ..."), "is application/pdf"),
        (image(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), "image/svg"),
        (image("data:image/png;base64,###"), "not base64"),
        (image("data:image/png"), "has no data"),
        (image("data:image/png;base64,"), "is empty"),
        (image("ftp://host/a.png"), "can't be fetched: 'ftp://host/a.png'"),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}}, "is not text"),
    ],
)
def test_content_that_can_not_be_converted_is_refused_before_sending(
    client: LlamaServerClient, part: Any, words: str
) -> None:
    with pytest.raises(BadRequestError, match=words) as caught:
        client.chat(asking(part))
    assert caught.value.status is None, "it was not sent"


def test_video_is_left_to_the_server_which_needs_ffmpeg(client: LlamaServerClient) -> None:
    """On a host without ffmpeg, as here, its refusal says so."""
    part = {"type": "input_video", "input_video": {"data": b64encode(b"\0\0\0\x18ftypisom" + bytes(99)).decode()}}
    assert client.info().video
    with pytest.raises(BadRequestError, match="Failed to load image or audio file") as caught:
        client.chat(asking(part))
    assert "ffmpeg" in (caught.value.remedy or "")
    with pytest.raises(BadRequestError, match=r"the video .* is image/png"):
        client.chat(asking({"type": "video_url", "video_url": {"url": image(picture())["image_url"]["url"]}}))


# -- local files


def test_files_are_read_only_where_the_caller_says_so(client: LlamaServerClient, tmp_path: Path) -> None:
    inside, outside, link = tmp_path / "in", tmp_path / "out", tmp_path / "in" / "link.png"
    for directory in (inside, outside):
        directory.mkdir()
        (directory / "a b.png").write_bytes(picture("red"))
    link.symlink_to(outside / "a b.png")
    expected = seen(client, image(picture("red")))
    for source in (str(inside / "a b.png"), (inside / "a b.png").as_uri()):
        with pytest.raises(BadRequestError, match="reading files is not enabled") as caught:
            client.chat(asking(image(source)))
        assert "read_files=True" in str(caught.value)
        assert seen(client, image(source), read_files=True) == expected
        assert seen(client, image(source), read_files=[str(inside)]) == expected
        with pytest.raises(BadRequestError, match="not in any directory"):
            client.chat(asking(image(source), read_files=[str(outside)]))
    for way_out in (str(link), str(inside / ".." / "out" / "a b.png")):
        with pytest.raises(BadRequestError, match="not in any directory"):
            client.chat(asking(image(way_out), read_files=[str(inside)]))
    with pytest.raises(BadRequestError, match=r"can't read.*No such file"):
        client.chat(asking(image(str(inside / "gone.png")), read_files=True))
    with pytest.raises(BadRequestError, match="is not a file"):
        client.chat(asking(image(str(inside)), read_files=True))
    with pytest.raises(BadRequestError, match="not of 'host'"):
        client.chat(asking(image("file://host/a.png"), read_files=True))
    with pytest.raises(BadRequestError, match=r"--media-path|file:// URLs are not allowed"):
        client.chat(asking(image("file:///a.png"), read_files="server"))  # the server's own words


def test_a_text_file_is_sent_as_text(client: LlamaServerClient, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("The code is 4711.")
    part = {"type": "file", "file": {"file_data": str(tmp_path / "notes.txt"), "filename": "notes.txt"}}
    assert "What is it?\nnotes.txt:\nThe code is 4711." in client.apply_template(asking(part, read_files=True))


# -- addresses


def test_addresses_are_fetched_only_where_the_caller_says_so(client: LlamaServerClient, web: Web) -> None:
    part = image(f"{web.url}/red.png")
    with pytest.raises(BadRequestError, match="fetching URLs is not enabled") as caught:
        client.chat(asking(part))
    assert "fetch_urls=True" in str(caught.value)
    assert web.asked == []
    expected = seen(client, image(picture("red")))
    assert seen(client, part, fetch_urls=LOCAL) == expected
    assert seen(client, image(f"{web.url}/moved"), fetch_urls=LOCAL) == expected
    assert seen(client, image(f"{web.url.replace('127.0.0.1', 'localhost')}/red.png"), fetch_urls=["loc*"]) == expected
    assert seen(client, audio(f"{web.url}/sound.wav"), fetch_urls=LOCAL) == seen(client, audio(sound()))
    assert client.chat(asking(image(f"{web.url}/photo.webp"), fetch_urls=LOCAL)).start.repairs


async def test_several_are_fetched_awaited_too(client: LlamaServerClient, web: Web) -> None:
    parts = [image(f"{web.url}/red.png"), audio(f"{web.url}/sound.wav"), image(f"{web.url}/photo.webp")]
    given = [image(picture("red")), audio(sound()), image(picture("red", "WEBP"))]
    async with AsyncLlamaServerClient(settings=client.settings) as other:
        reply = await other.chat(asking(*parts, fetch_urls=LOCAL))
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == seen(client, *given)[0] == seen(client, *parts, fetch_urls=LOCAL)[0]


def test_other_hosts_get_nothing_that_is_the_servers(client: LlamaServerClient, web: Web) -> None:
    for _ in range(2):
        client.chat(asking(image(f"{web.url}/red.png"), fetch_urls=LOCAL))
    assert [path for path, _ in web.asked] == ["/red.png", "/red.png"]
    for _, headers in web.asked:
        assert "secret" not in str(headers)
        assert headers.keys() & {"Authorization", "X-Api-Key", "X-Mine", "Cookie"} == set()
        assert headers["Host"] == web.url.removeprefix("http://")


def test_your_own_connections_are_not_used_for_other_hosts(vision_server: LocalServer, web: Web) -> None:
    import httpx

    with httpx.Client(headers={"Authorization": "Bearer mine"}, trust_env=False) as mine:
        client = LlamaServerClient(vision_server.base_url, http_client=mine)
        client.chat(asking(image(f"{web.url}/red.png"), fetch_urls=LOCAL))
        client.close()
    assert "Bearer" not in str(web.asked)


PRIVATE = (
    "127.0.0.1",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "10.1.2.3",
    "169.254.169.254",
    "2130706433",
    "0.0.0.0",
)


@pytest.mark.parametrize("host", PRIVATE)
def test_private_addresses_are_not_reached_unless_named(client: LlamaServerClient, web: Web, host: str) -> None:
    port = web.url.rpartition(":")[2]
    with pytest.raises(BadRequestError, match="is not public") as caught:
        client.chat(asking(image(f"http://{host}:{port}/red.png"), fetch_urls=True))
    assert "fetch_urls=[" in str(caught.value)
    assert web.asked == []


def test_a_name_is_bound_to_the_address_that_was_looked_at(
    client: LlamaServerClient, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(web.url.rpartition(":")[2])
    monkeypatch.setattr(behind_doors.ADDRESSES_OF_A_HOST, lambda *_: ["127.0.0.1"])
    monkeypatch.setattr(behind_doors.IS_PUBLIC, lambda _: True)
    client.chat(asking(image(f"http://images.example:{port}/red.png"), fetch_urls=True))
    assert web.asked[0][1]["Host"] == f"images.example:{port}"


def test_a_redirect_is_looked_at_like_the_address_itself(client: LlamaServerClient, web: Web) -> None:
    with pytest.raises(BadRequestError, match=r"192\.168\.7\.7 is not in fetch_urls"):
        client.chat(asking(image(f"{web.url}/out"), fetch_urls=LOCAL))
    with pytest.raises(BadRequestError, match="more than 3 redirects"):
        client.chat(asking(image(f"{web.url}/round"), fetch_urls=LOCAL))


@pytest.mark.parametrize(
    ("path", "words"),
    [("/missing.png", "HTTP 404"), ("/page.html", "is a web page"), ("/big.png", "longer than 4096 bytes")],
)
def test_what_can_not_be_fetched_is_named(
    client: LlamaServerClient, web: Web, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.setattr(behind_doors.MOST_BYTES_OF_MEDIA, 4096)
    with pytest.raises(BadRequestError, match=words):
        client.chat(asking(image(web.url + path), fetch_urls=LOCAL))


def test_a_host_that_does_not_answer_is_not_taken_for_the_server(client: LlamaServerClient) -> None:
    with pytest.raises(ConnectionFailedError, match=r"the image .* can't be fetched") as caught:
        client.chat(asking(image("http://127.0.0.1:1/a.png"), fetch_urls=LOCAL))
    assert "llama-server" not in str(caught.value)
    with pytest.raises(ConnectionFailedError, match=r"can't be fetched.*no.such.host"):
        client.chat(asking(image("http://no.such.host.invalid/a.png"), fetch_urls=True))


def test_the_server_fetches_only_when_that_is_configured(client: LlamaServerClient, web: Web) -> None:
    part = image(f"{web.url}/red.png")
    assert seen(client, part, fetch_urls="server") == seen(client, image(picture("red")))
    assert web.asked[0][1]["User-Agent"] != "llamacpp-server"


def test_a_proxy_looks_names_up_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert addresses_of("images.example.invalid", 443, "https") == []
    assert addresses_of("127.0.0.1", 443, "https") == ["127.0.0.1"]


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "10.1.2.3", "[fd00:ec2::254]", "[::ffff:10.0.0.1]", "0xa9fea9fe", "127.1", "168.63.129.16",
     "metadata.google.internal", "intranet", "localhost."],
)  # fmt: skip
def test_a_proxy_is_not_asked_for_private_addresses(
    client: LlamaServerClient, monkeypatch: pytest.MonkeyPatch, web: Web, host: str
) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    with pytest.raises(BadRequestError, match="is not public"):
        client.chat(asking(image(f"http://{host}/a.png"), fetch_urls=True))
    assert web.asked == []


def test_a_host_that_is_named_may_be_private_behind_a_proxy(
    client: LlamaServerClient, monkeypatch: pytest.MonkeyPatch, web: Web
) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    web.files["http://intranet/a.png"] = ("image/png", picture("red"))
    assert client.chat(asking(image("http://intranet/a.png"), fetch_urls=["intranet"])).finish_reason


# -- results of tools, and embeddings

LOSES_RESULTS = (
    "{%- for m in messages -%}{{ m.role }}: "
    "{%- if m.role == 'tool' -%}a result{%- else -%}{%- for p in m.content -%}{{ p.text }}{%- endfor -%}{%- endif -%}"
    "\n{%- endfor -%}assistant: "
)


def with_result(*parts: Any) -> ChatRequest:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "name": "look", "content": [{"type": "text", "text": "Here:"}, *parts]},
    ]
    return ChatRequest(messages=messages, params=ONE_TOKEN)


def test_images_in_results_are_sent_as_they_are(client: LlamaServerClient) -> None:
    reply = client.chat(with_result(image(picture("red"))))
    assert reply.start.repairs == ()
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > client.count_tokens(with_result()) + 10


def test_images_of_other_apis_are_seen(client: LlamaServerClient) -> None:
    data = b64encode(picture("red")).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    own, anthropic = (
        client.chat(with_result(part)) for part in (image(picture("red")), {"type": "image", "source": source})
    )
    assert [repair.name for repair in anthropic.start.repairs] == ["blocks"]
    assert own.usage is not None
    assert anthropic.usage is not None
    assert own.usage.prompt_tokens == anthropic.usage.prompt_tokens
    assert client.count_tokens(with_result({"type": "image", "source": source})) == own.usage.prompt_tokens


def test_the_error_of_an_unknown_part_names_its_place(client: LlamaServerClient) -> None:
    request = ChatRequest(messages=[{"role": "user", "content": [{"type": "hologram"}]}], params=ONE_TOKEN)
    with pytest.raises(BadRequestError, match=r"messages\[0\].content\[0\] is of type 'hologram'"):
        client.chat(request)


def test_images_in_results_move_where_the_template_loses_them(
    serve: Any, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = build_random(tmp_path_factory.mktemp("loses") / "loses.gguf", chat_template=LOSES_RESULTS)
    server = serve(path, parallel=1, ctx_size=1024, mmproj=models_dir / "mmproj-random.gguf")
    with server.client() as client:
        red, blue = (client.chat(with_result(image(picture(colour)))) for colour in ("red", "blue"))
        assert [repair.name for repair in red.start.repairs] == ["result_media"]
        assert red.logprobs != blue.logprobs
        assert "user:[Result of look]" in client.apply_template(with_result(image(picture())))
        with pytest.raises(LlamaServerError, match="tokenize"):
            client.chat(replace(with_result(image(picture())), history_repair=False))


def test_images_are_embedded_from_everywhere(serve: Any, models_dir: Path, web: Web, tmp_path: Path) -> None:
    server = serve("random.gguf", parallel=2, ctx_size=2048, embeddings=True, pooling="mean",
                   mmproj=models_dir / "mmproj-random.gguf")  # fmt: skip
    with server.client() as client:

        def vector(one: Any, **media: Any) -> list[float]:
            return client.embed_texts(EmbedRequest(inputs=[one], media=MediaPolicy(**media))).vectors[0]

        red = vector(image_input(picture("red")))
        assert red != pytest.approx(vector(image_input(picture("blue"))), abs=1e-4)
        assert red == pytest.approx(vector(image_input(f"{web.url}/red.png"), fetch_urls=LOCAL), abs=1e-4)
        with pytest.raises(BadRequestError, match="fetching URLs is not enabled"):
            vector(image_input(f"{web.url}/red.png"))
        assert len(vector(image_input(picture("red", "WEBP")))) == len(red)
