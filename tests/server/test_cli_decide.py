"""`llamacpp-server decide` and `decisions-copy` against real servers."""

import json

import pytest

from llamacpp_server import Calibration, Choice, Noul, Score
from tests.models import build_table
from tests.server.test_cli import DOWN, Run, run

__all__ = ["run"]

TABLE = {"\n": {"A": 0.6, "B": 0.3, "C": 0.1, "y": 0.06, "n": 0.02, "0": 0.06, "1": 0.02, "b": 0.03, "s": 0.01}}


@pytest.fixture(scope="module")
def client(serve, tmp_path_factory):
    path = build_table(tmp_path_factory.mktemp("table") / "table.gguf", TABLE)
    with serve(path, parallel=1, ctx_size=4096).client() as made:
        yield made


@pytest.fixture
def decide(run: Run, client):
    def called(*arguments, stdin=""):
        return run("decide", *arguments, "--base-url", client.settings.base_url, stdin=stdin)

    return called


def rows(out):
    return [tuple(line.split("  ", 1)) for line in out.splitlines()]


def test_options_are_printed_with_their_probabilities_the_likeliest_first(decide):
    code, out, err = decide("My parcel", "is late.", "--options", "shipping, billing,other", "--labels", "letters")
    assert (code, err) == (0, "")
    assert rows(out) == [("0.600", "shipping"), ("0.300", "billing"), ("0.100", "other")]


def test_without_options_the_question_is_answered_with_yes_or_no(decide):
    code, out, _ = decide("My parcel is late.", "--question", "Is it urgent?")
    assert code == 0
    assert rows(out) == [("0.750", "yes"), ("0.250", "no")]


def test_levels_are_printed_in_their_order(decide):
    code, out, _ = decide("x", "--question", "How urgent?", "--levels", "now,later")
    assert code == 0
    assert rows(out) == [("0.750", "now"), ("0.250", "later")]


@pytest.mark.parametrize("arguments", [["-"], []])
def test_the_text_is_read_from_stdin(decide, client, arguments):
    text = "Line one\nline two: é 🙂\n"
    code, out, _ = decide(*arguments, "--options", "a,b", "--json", stdin=text)
    assert code == 0
    found = json.loads(out)
    own = client.decide(text, {"q": Choice("Which of the options describes this best?", ["a", "b"])})
    assert found["usage"]["prompt_tokens"] == own.usage.prompt_tokens
    assert found["probabilities"] == pytest.approx(own.choices["q"].probabilities, abs=1e-3)


def test_json_has_what_the_client_returns(decide, client):
    for arguments, question in (
        (["--options", "a,b"], Choice("?", ["a", "b"])),
        ([], Noul("?")),
        (["--levels", "low,high"], Score("?", ["low", "high"])),
    ):
        code, out, _ = decide("x", "--question", "?", *arguments, "--json")
        assert code == 0
        found, own = json.loads(out), client.decide("x", {"q": question})
        answer = own.answers["q"]
        assert found["type"] == answer.type
        assert (found["engine"], found["model"], found["requests"]) == ("logits", own.model, 1)
        if answer.type == "noul":
            assert found["noul"] == pytest.approx(answer.noul, abs=1e-3)
        else:
            assert list(found["probabilities"].values()) == pytest.approx(list(answer.probabilities.values()), abs=1e-3)
            assert found["confidence"] == pytest.approx(answer.confidence, abs=1e-3)


def test_single_options_may_have_commas_and_descriptions(decide):
    code, out, _ = decide("x", "--option", "one, or two=few", "--option", "more", "--labels", "letters")
    assert code == 0
    assert rows(out) == [("0.667", "one, or two"), ("0.333", "more")]


def test_rotations_and_a_calibration_are_used(decide, tmp_path):
    _, out, _ = decide("x", "--options", "a,c", "--labels", "letters", "--rotations", "2")
    assert rows(out) == [("0.500", "a"), ("0.500", "c")]
    Calibration({"choice": 1000.0}).save(tmp_path / "fit.json")
    options = ("--options", "a,c", "--labels", "letters")
    _, out, _ = decide("x", *options, "--calibration", tmp_path / "fit.json")
    assert rows(out) == [("0.500", "a"), ("0.500", "c")]
    code, _, err = decide("x", *options, "--calibration", tmp_path / "missing.json")
    assert code == 1
    assert "missing.json" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["x"], "--question, or --options"),
        (["x", "--options", "a"], "two or more distinct names"),
        (["x", "--options", "a,a"], "two or more distinct names"),
        (["x", "--levels", "a,b"], "--question"),
        (["x", "--option", "a", "--option", "a"], "given twice"),
        (["x", "--options", "a,b", "--levels", "a,b"], "not allowed with"),
        (["--options", "a,b"], "no text"),
        (["-", "--options", "a,b"], "no text"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_why(run: Run, arguments, words):
    code, out, err = run("decide", *arguments, "--base-url", DOWN)
    assert (code, out) == (2, "")
    assert words in err


def test_a_server_that_is_down_is_named(run: Run):
    code, out, err = run("decide", "x", "--options", "a,b", "--base-url", DOWN)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert DOWN in err
    assert "Traceback" not in err


def test_a_copy_is_written_next_to_the_model_and_never_over_it(run: Run, models_dir, tmp_path, serve):
    model = tmp_path / "chat.gguf"
    model.write_bytes((models_dir / "random.gguf").read_bytes())
    code, out, _ = run("decisions-copy", model)
    copy = tmp_path / "chat-decisions.gguf"
    assert (code, out.strip()) == (0, str(copy))
    with serve(copy, parallel=1, ctx_size=2048).client() as client:
        assert client.decide("x", {"q": Noul("?")}).engine == "native"
    code, _, err = run("decisions-copy", model)
    assert code == 1
    assert "--overwrite" in err
    assert run("decisions-copy", model, "--overwrite")[0] == 0
    code, _, err = run("decisions-copy", model, model, "--overwrite")
    assert code == 1
    assert "can't replace the model itself" in err
    assert run("decisions-copy", model, tmp_path / "other.gguf")[0] == 0
