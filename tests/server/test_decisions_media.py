"""Decisions about images and sounds, wherever they stand in a state, with both engines."""

from base64 import b64encode

import pytest

from llamacpp_server import BadRequestError, Choice, NotSupportedError
from llamacpp_server.local import write_decisions_copy
from llamacpp_server.testing import chat_vocabulary
from tests.media import picture
from tests.media import sound as wave
from tests.models import build_projector, build_table

TEAM = Choice("Which team?", {"billing": "Payments", "shipping": "Parcels", "other": None})
WORDS = Choice("?", ["red", "red bean", "rind", "green"])
TABLE = {"\n": {"r": 0.6, "g": 0.2, " ": 0.1, "A": 0.03}, "r": {"e": 0.75, "i": 0.25}, "e": {"d": 1.0},
         "d": {"": 0.5, " ": 0.125}, " ": {"g": 0.3, "r": 0.1, "A": 0.1}}  # fmt: skip


def image(colour="red"):
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64encode(picture(colour)).decode()}"}}


def sound():
    return {"type": "input_audio", "input_audio": {"data": b64encode(wave()).decode(), "format": "wav"}}


def states(*parts):
    """The same parts in each place where a state may have them."""
    message = {"role": "user", "content": [*parts, {"type": "text", "text": "Look at it."}]}
    return {
        "list": [*parts, "Look at it."],
        "deep": {"ticket": {"attached": list(parts), "text": "Look at it."}},
        "messages": [message],
        "state with messages": {"messages": [message], "tool": "delete"},
        "both": {"messages": [message], "more": parts[0]},
    }


@pytest.fixture(scope="module")
def native(serve, models_dir, tmp_path_factory):
    copy = write_decisions_copy(models_dir / "random.gguf", tmp_path_factory.mktemp("copy") / "copy.gguf")
    server = serve(copy, mmproj=models_dir / "mmproj-random.gguf", parallel=1, ctx_size=4096)
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def table(serve, tmp_path_factory):
    directory = tmp_path_factory.mktemp("table")
    width = (len(chat_vocabulary()) + 31) // 32 * 32
    eyes = build_projector(directory / "eyes.gguf", text_embedding_length=width, audio=False)
    with serve(build_table(directory / "table.gguf", TABLE), mmproj=eyes, parallel=1, ctx_size=4096).client() as client:
        yield client


def test_labels_of_several_tokens_have_the_same_probabilities_with_an_image_as_without(table):
    plain = table.decide("x", {"q": WORDS}, labels="words").choices["q"].probabilities
    seen = table.decide(["x", image()], {"q": WORDS}, labels="words").choices["q"].probabilities
    # The first of an answer is r, g or a space, behind which r or g may follow.
    r, g, space = (share / 0.9 for share in (0.6, 0.2, 0.1))
    r, g = r + space * 0.25, g + space * 0.75
    red = r * 0.75
    assert plain == pytest.approx({"red": red * 0.8, "red bean": red * 0.2, "rind": r * 0.25, "green": g}, abs=1e-3)
    assert seen == pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize("engine", ["native", "logits"])
@pytest.mark.parametrize("place", states(image()))
def test_an_image_is_seen_wherever_it_stands(native, engine, place):
    def asked(colour):
        return native.decide(states(image(colour))[place], {"q": TEAM}, engine=engine)

    red, blue = asked("red"), asked("blue")
    assert red.engine == engine
    assert red.choices["q"].probabilities != blue.choices["q"].probabilities
    # Each image costs 16 tokens; its data as text would be hundreds.
    longest = 350 if engine == "native" else 350 * red.requests
    assert red.usage.prompt_tokens < longest


@pytest.mark.parametrize("place", states(sound()))
def test_audio_is_read_at_every_position(native, place):
    found = native.decide(states(sound())[place], {"q": TEAM}, engine="native")
    assert found.usage.prompt_tokens < 350
    read = native.decide(states(sound())[place], {"q": TEAM}, engine="logits", labels="letters")
    assert read.usage.prompt_tokens < 1500


def test_a_native_server_without_a_projector_says_what_to_do(serve, models_dir, tmp_path):
    copy = write_decisions_copy(models_dir / "random.gguf", tmp_path / "copy.gguf")
    with serve(copy, parallel=1, ctx_size=2048).client() as client:
        for state in states(image()).values():
            for engine in ("native", "auto"):
                with pytest.raises(NotSupportedError, match="--mmproj"):
                    client.decide(state, {"q": TEAM}, engine=engine)


def test_more_images_than_the_server_takes_are_an_error_that_says_so(native):
    with pytest.raises(BadRequestError, match="too many images, the maximum is 8"):
        native.decide([image()] * 9, {"q": TEAM}, engine="native")
