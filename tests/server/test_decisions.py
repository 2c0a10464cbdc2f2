"""Decisions on the real server: by its own route for a decision model made here, and by a chat model's next token."""

from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamacpp_server import (
    AsyncLlamaServerClient,
    BadRequestError,
    Calibration,
    ChatRequest,
    Choice,
    ContextOverflowError,
    Example,
    LocalServer,
    MediaPolicy,
    NotSupportedError,
    Noul,
    Score,
)
from llamacpp_server.local import write_decisions_copy
from tests.media import picture
from tests.models import CHAT_TEMPLATE, build_table

TINY = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"
TEAM = Choice("Which team should handle this?", {"billing": "Payments", "shipping": "Parcels", "technical": None})
URGENT = Noul("Is this urgent?")
LEVEL = Score("How urgent is it?", ["calm", "soon", "now"])
STATE = "My parcel has not arrived, and I need it today!"
# "Z" is likelier than all labels together, and two hundred other characters are likelier than "C".
FIRST = {"Z": 0.8, "A": 0.1, "B": 0.05, "C": 1e-6, "y": 0.03, "n": 0.01, "0": 0.004, "1": 0.002, "2": 0.002}
FILLER = {chr(code): 1e-5 for code in range(0x21, 0x7F) if chr(code) not in FIRST}
TABLE = {"\n": {**FIRST, **FILLER}, "r": {"e": 0.75, "i": 0.25}, "d": {" ": 0.6, "": 0.2}, " ": {"a": 0.5, "b": 0.125}}


@pytest.fixture(scope="module")
def table_server(serve, tmp_path_factory):
    table = {**TABLE, "\n": {**TABLE["\n"], "r": 0.006, "g": 0.002}, "e": {"d": 1.0}}
    return serve(build_table(tmp_path_factory.mktemp("table") / "table.gguf", table), parallel=1, ctx_size=4096)


@pytest.fixture(scope="module")
def table(table_server):
    with table_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def tiny_server(serve):
    return serve(TINY, parallel=1, ctx_size=4096, flash_attn="off")


def normalized(*shares):
    return [share / sum(shares) for share in shares]


def data_url(colour):
    return "data:image/png;base64," + b64encode(picture(colour)).decode()


def approx(shares):
    return pytest.approx(shares, abs=1e-3)


# -- the numbers, in closed form


def test_probabilities_of_a_choice_are_those_of_the_model_also_outside_of_its_likeliest_tokens(table):
    found = table.decide("x", {"q": Choice("?", ["one", "two", "three"])}, labels="letters")
    answer = found.choices["q"]
    assert found.engine == "logits"
    assert list(answer.probabilities.values()) == approx(normalized(0.1, 0.05, 1e-6))
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.choice == "one"
    assert answer.confidence == approx((0.1 / 0.150001 - 1 / 3) / (2 / 3))


def test_probabilities_of_yes_and_of_levels_are_those_of_the_model(table):
    found = table.decide("x", {"yes": Noul("?"), "level": LEVEL})
    # Characters that also begin the other spellings of yes and no count too.
    yes, no = 0.03 + FILLER["Y"], 0.01 + FILLER["N"]
    assert found.nouls["yes"].noul == approx(yes / (yes + no))
    assert list(found.scores["level"].probabilities.values()) == approx(normalized(0.004, 0.002, 0.002))
    assert found.scores["level"].score == approx(0.75)
    assert found.scores["level"].legend == {0: "calm", 1: "soon", 2: "now"}


def test_options_of_several_tokens_and_beginnings_of_others_are_products_along_their_path(table):
    found = table.decide("x", {"q": Choice("?", ["red", "red apple", "red bean", "rind", "green"])}, labels="words")
    r, g = normalized(0.006, 0.002)
    space, end = normalized(0.6, 0.2)
    red = r * 0.75
    expected = [red * end, red * space * 0.8, red * space * 0.2, r * 0.25, g]
    assert list(found.choices["q"].probabilities.values()) == approx(expected)


def test_labels_that_the_model_writes_behind_a_space_count_with_and_without_it(serve, tmp_path):
    table = {"\n": {" ": 0.6, "A": 0.03, "B": 0.01, "y": 0.05, "n": 0.05}, " ": {"A": 0.1, "B": 0.3, "n": 0.4}}
    with serve(build_table(tmp_path / "spaces.gguf", table), parallel=1, ctx_size=2048).client() as client:
        found = client.decide("x", {"q": Choice("?", ["one", "two"]), "yes": Noul("?")}, labels="letters")
    a, b, space = normalized(0.03, 0.01, 0.6)
    assert list(found.choices["q"].probabilities.values()) == approx([a + space * 0.25, b + space * 0.75])
    yes = normalized(0.05, 0.05, 0.6)[0]
    assert found.nouls["yes"].noul == approx(yes)


def test_rotations_take_the_position_out_of_the_answer(table):
    """This model knows positions alone, so what is left is equal."""
    found = table.decide("x", {"q": Choice("?", ["one", "two"])}, labels="letters", rotations=2)
    assert list(found.choices["q"].probabilities.values()) == approx([0.5, 0.5])
    assert found.requests == 2


def test_mass_is_how_likely_the_model_answers_with_a_label(table):
    question = {"q": Choice("?", ["one", "two", "three"])}
    found = table.decide("x", question, labels="letters", mass=True)
    total = sum(TABLE["\n"].values()) + 0.008
    assert found.choices["q"].mass == approx(0.150001 / total)
    assert table.decide("x", question).choices["q"].mass is None


def test_more_options_than_letters_are_numbered(table):
    found = table.decide("x", {"q": Choice("?", [f"option {n}" for n in range(200)])}, labels="letters")
    shares = list(found.choices["q"].probabilities.values())
    assert len(shares) == 200
    assert sum(shares) == pytest.approx(1)
    # 001 to 099 against 100 to 199 against 200.
    assert [sum(shares[:99]), sum(shares[99:199]), shares[199]] == approx(normalized(0.004, 0.002, 0.002))


def test_one_option_is_certain(table):
    answer = table.decide("x", {"q": Choice("?", ["only"])}).choices["q"]
    assert (answer.probabilities, answer.confidence) == ({"only": 1.0}, 1.0)


def test_a_calibration_changes_the_probabilities_and_not_their_sum(table):
    question = {"q": Choice("?", ["one", "two"])}
    flat = table.decide("x", question, labels="letters", calibration=Calibration({"choice": 2.0})).choices["q"]
    assert list(flat.probabilities.values()) == approx(normalized(0.1**0.5, 0.05**0.5))


def test_a_label_that_only_a_larger_bias_lifts_is_found(scripted_server):
    """A scripted model is so certain of its word that a bias of 100 leaves it in front of the labels."""
    with scripted_server("Hello there.").client() as client:
        answer = client.decide("x", {"q": Choice("?", ["one", "two"])}, labels="letters").choices["q"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.binary
def test_sampling_flags_of_the_server_do_not_change_the_numbers(tmp_path):
    path = build_table(tmp_path / "table.gguf", TABLE)
    flags = ["--temp", "0.1", "--top-k", "1", "--mirostat", "2", "--ignore-eos"]
    with LocalServer(path, backend="binary", ctx_size=2048, threads=1, warmup=False, extra_args=flags) as server:
        found = server.client().decide("x", {"q": Choice("?", ["one", "two"])}, labels="letters")
    assert list(found.choices["q"].probabilities.values()) == approx(normalized(0.1, 0.05))


NASTY = [
    "\n",
    '"',
    "'",
    "\\",
    "🙂",
    "é",
    "e\u0301",
    "<|im_end|>",
    "</think>",
    "{{ x }}",
    " ",
    "A",
    "B: x",
    "\x7f",
    "نعم",
    "yes",
]
HOSTILE = st.lists(st.sampled_from(NASTY), min_size=1, max_size=5).map("".join)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HOSTILE, min_size=2, max_size=12, unique=True), st.sampled_from(["letters", "words"]), HOSTILE)
def test_hostile_options_get_probabilities_that_sum_to_1(chat_server, keys, labels, state):
    with chat_server.client() as client:
        choice = Choice(state, dict(zip(keys, reversed(keys), strict=True)))
        found = client.decide(state, {state: choice, "level": Score("?", [keys[0]] * 4)}, labels=labels)
    answer = found.choices[state]
    assert list(answer.probabilities) == keys
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.choice == max(keys, key=answer.probabilities.__getitem__)
    assert sum(found.scores["level"].probabilities.values()) == pytest.approx(1)


def test_two_hundred_texts_with_the_same_beginning_sum_to_1(serve):
    keys = [f"text {n}" for n in range(200)]
    with serve("random.gguf", parallel=1, ctx_size=4096).client() as client:
        for labels in ("letters", "words"):
            answer = client.decide("x", {"q": Choice("?", keys)}, labels=labels).choices["q"]
            assert sum(answer.probabilities.values()) == pytest.approx(1)
            assert len(answer.probabilities) == 200


# -- prompts


def test_reasoning_that_a_template_always_opens_is_closed_before_the_answer(serve, tmp_path_factory):
    template = CHAT_TEMPLATE.rpartition("{%- if add_generation_prompt -%}")[0]
    template += "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n<think>' }}{%- endif -%}"
    path = tmp_path_factory.mktemp("think") / "think.gguf"
    server = serve(build_table(path, TABLE, template=template), parallel=1, ctx_size=2048)
    with server.client() as client:
        found = client.decide("x", {"q": Choice("?", ["one", "two"])}, labels="letters")
    # Within the reasoning the last character is ">", of which the table knows nothing.
    assert list(found.choices["q"].probabilities.values()) == approx(normalized(0.1, 0.05))


def test_thinking_first_reads_the_answer_behind_the_reasoning(tiny_server, table):
    with tiny_server.client() as client:
        plain = client.decide(STATE, {"q": URGENT})
        thought = client.decide(STATE, {"q": URGENT}, thinking=16)
    assert (plain.requests, thought.requests) == (plain.requests, plain.requests + 1)
    assert 1 < thought.usage.completion_tokens - plain.usage.completion_tokens <= 16
    with pytest.raises(NotSupportedError, match="does not support reasoning"):
        table.decide("x", {"q": URGENT}, thinking=16)


def test_questions_about_one_state_share_its_prompt(tiny_server):
    state = "The meeting is at noon. " * 60
    with tiny_server.client() as client:
        found = client.decide(state, {"a": URGENT, "b": TEAM, "c": LEVEL})
        length = len(client.tokenize(state))
    assert found.usage.cached_tokens >= 2 * length * 0.9


def test_images_in_a_state_change_the_answer(vision_server):
    def asked(client, *images):
        parts = [{"type": "image_url", "image_url": {"url": image}} for image in images]
        return client.decide([*parts, "What is in it?"], {"q": TEAM}, labels="letters").choices["q"].probabilities

    with vision_server.client() as client:
        red, blue = asked(client, data_url("red")), asked(client, data_url("blue"))
        assert sum(red.values()) == pytest.approx(1)
        assert red != blue


def test_a_local_image_is_read_only_where_allowed(vision_server, tmp_path):
    with vision_server.client() as client:
        state = [{"type": "image_url", "image_url": {"url": f"file://{tmp_path}/a.png"}}]
        with pytest.raises(BadRequestError, match="read_files"):
            client.decide(state, {"q": TEAM})
        with pytest.raises(BadRequestError):
            client.decide(state, {"q": TEAM}, media=MediaPolicy(read_files=True))


# -- the server's own route


@pytest.fixture(scope="module")
def native_server(serve, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy") / "tiny-decisions.gguf"
    write_decisions_copy(TINY, copy)
    return serve(copy, parallel=2, ctx_size=8192, flash_attn="off")


@pytest.fixture(scope="module")
def native(native_server):
    with native_server.client() as client:
        yield client


def test_a_copy_with_two_keys_more_is_served_natively_and_still_chats(native, tiny_server):
    found = native.decide(STATE, {"team": TEAM, "urgent": URGENT, "level": LEVEL})
    assert found.engine == "native"
    assert list(found.answers) == ["team", "urgent", "level"]
    assert sum(found.choices["team"].probabilities.values()) == pytest.approx(1)
    hello = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"temperature": 0, "max_tokens": 20})
    with tiny_server.client() as client:
        assert native.chat(hello).content == client.chat(hello).content != ""


def test_both_engines_give_the_same_probabilities_for_the_same_letters(native):
    for question in (TEAM, Choice("Which?", ["a 'b'", 'c "d"', "e\\f"])):
        own = native.decide(STATE, {"q": question}, engine="native").choices["q"].probabilities
        read = native.decide(STATE, {"q": question}, engine="logits", labels="letters").choices["q"].probabilities
        assert own == pytest.approx(read, abs=0.05)


def test_rotations_of_the_native_engine_are_questions_of_one_request(native):
    found = native.decide(STATE, {"q": TEAM, "q 2": URGENT, "level": LEVEL}, rotations=3)
    assert (found.engine, found.requests, list(found.answers)) == ("native", 3 + 1 + 2, ["q", "q 2", "level"])
    once = [native.decide(STATE, {"q": Choice(TEAM.instructions, order)}).choices["q"].probabilities
            for order in ({k: TEAM.criteria[k] for k in keys} for keys in  # type: ignore[call-overload]
                          (["billing", "shipping", "technical"], ["shipping", "technical", "billing"],
                           ["technical", "billing", "shipping"]))]  # fmt: skip
    mean = {key: sum(one[key] for one in once) / 3 for key in TEAM.criteria}
    assert found.choices["q"].probabilities == pytest.approx(mean, abs=0.02)


def test_what_the_native_engine_can_not_take_is_an_error_or_goes_the_other_way(native):
    many = {"q": Choice("?", [str(n) for n in range(53)])}
    with pytest.raises(BadRequestError, match="at most 52"):
        native.decide("x", many, engine="native")
    with pytest.raises(BadRequestError, match="at most 10"):
        native.decide("x", {"q": Score("?", list("abcdefghijk"))}, engine="native")
    with pytest.raises(BadRequestError, match="does not support mass"):
        native.decide("x", {"q": TEAM}, engine="native", mass=True)
    assert native.decide("x", many).engine == "logits"
    assert native.decide("x", {"q": TEAM}, mass=True).engine == "logits"


def test_options_that_json_can_not_hold_go_the_other_way(native):
    odd = {"q": Choice("?", ["a\ud800", "b"])}
    found = native.decide("x", odd)
    assert (found.engine, list(found.choices["q"].probabilities)) == ("logits", ["a\ud800", "b"])
    with pytest.raises(BadRequestError, match="lone surrogates"):
        native.decide("x", odd, engine="native")


def test_a_state_that_does_not_fit_is_a_context_overflow_in_both_engines(native):
    for engine in ("native", "logits"):
        with pytest.raises(ContextOverflowError) as caught:
            native.decide("word " * 5000, {"q": TEAM}, engine=engine)
        assert caught.value.n_ctx == 4096


def test_a_chat_model_does_not_answer_natively(table):
    with pytest.raises(NotSupportedError, match="not a decision model"):
        table.decide("x", {"q": TEAM}, engine="native")


# -- questions


@pytest.mark.parametrize(
    ("questions", "words"),
    [
        ({}, "at least one"),
        ([], "mapping"),
        ({"q": "?"}, "Noul, Choice or Score"),
        ({"q": {"type": "box", "instructions": "?"}}, "unknown type 'box'"),
        ({"q": {"type": "noul", "instructions": "?", "criterion": {}}}, "unknown fields: criterion"),
        ({"q": {"type": "noul"}}, "no instructions"),
        ({"q": {"type": "choice", "instructions": "?"}}, "no criteria"),
        ({"q": Choice("?", [])}, "no options"),
        ({"q": Choice("?", ["a", "a"])}, "twice"),
        ({"q": Choice("?", "ab")}, "list of them"),
        ({"q": Score("?", ["a"])}, "at least two"),
        ({"q": Choice("?", {"a": object()})}, "not JSON"),
    ],
)
def test_a_question_that_can_not_be_asked_is_refused(table, questions, words):
    with pytest.raises(BadRequestError, match=words):
        table.decide("x", questions)


def test_questions_may_be_dicts_of_the_servers_form(table):
    plain = {"q": {"type": "choice", "instructions": "?", "criteria": {"a": None, "b": None}}}
    assert table.decide("x", plain).answers == table.decide("x", {"q": Choice("?", ["a", "b"])}).answers


async def test_the_async_client_decides_and_calibrates_the_same(table_server, table):
    questions = {"q": Choice("?", ["one", "two"]), "yes": Noul("?")}
    examples = [Example("x", {"q": "one", "yes": n % 2 == 0}) for n in range(40)] + [Example("x", {"q": "two"})] * 40
    async with AsyncLlamaServerClient(table_server.base_url) as client:
        found = await client.decide("x", questions, labels="letters")
        report = await client.calibrate(questions, examples, labels="letters")
    assert found.answers == table.decide("x", questions, labels="letters").answers
    assert report == table.calibrate(questions, examples, labels="letters")
    # One in two is right, and the model says 0.67 and 0.75.
    assert report.after.ece < report.before.ece / 2
    assert report.held_out.ece < report.before.ece / 2
    assert report.calibration.temperatures["choice"] > 2


def test_examples_have_to_answer_the_questions(table):
    for answers in ({"other": "a"}, {"q": "d"}, {"q": True}):
        with pytest.raises(BadRequestError):
            table.calibrate({"q": Choice("?", ["a", "b"])}, [Example("x", answers)])
    with pytest.raises(BadRequestError, match="examples"):
        table.calibrate({"q": Choice("?", ["a", "b"])}, [])


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"rotations": "2"}, "rotations must be an integer"),
        ({"rotations": 1.5}, "rotations must be an integer"),
        ({"rotations": 0}, "rotations must be at least 1"),
        ({"thinking": "5"}, "thinking must be an integer"),
        ({"thinking": -1}, "thinking must be at least 0"),
        ({"engine": "gpu"}, "engine must be one of auto, native, logits"),
        ({"labels": "numbers"}, "labels must be one of auto, letters, words"),
        ({"calibration": {"temperatures": {}}}, "calibration must be a `Calibration`"),
        ({"calibration": Calibration({"choice": 0.0})}, "temperature above 0"),
        ({"calibration": Calibration({"choice": float("nan")})}, "temperature above 0"),
        ({"calibration": Calibration({}, {"q": [0.0, float("inf")]})}, "offsets that are numbers"),
    ],
)
def test_a_wrong_option_of_a_decision_is_refused_by_its_name(table, option, words):
    with pytest.raises(BadRequestError, match=words):
        table.decide("x", {"q": Choice("?", ["a", "b"])}, **option)
