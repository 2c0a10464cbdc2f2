"""Any JSON in any field of any reply: a typed error or a sane answer.

Each field of a reply of every endpoint is replaced by every kind of odd value, and by random ones. No sockets are
needed: a mock of httpx answers, so that thousands of replies are read in seconds.
"""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamacpp_server import LlamaServerError
from tests.unit.every_call import CALLS, REFUSED, WITHOUT_REPLIES, Events, StandIn, places, public_methods, put

DEEP = json.loads("[" * 150 + "]" * 150)
ODD = (
    None, True, False, 0, -1, 2**70, 10**400, -0.5, 1e308, float("nan"), float("inf"), "", "x", "\ud800\x1b[31m\n", [],
    [None], ["x"], [1], [[]], [{}], {}, {"a": 1}, {"": None}, {"a": {"b": []}}, DEEP, "x" * 3000,
)  # fmt: skip
ERROR = {"error": {"code": 400, "message": "no", "type": "invalid_request_error", "n_prompt_tokens": 1, "n_ctx": 1}}

# Where other calls show the rest.
SPOILED = {
    "chat, with tools": ["/props"],
    "resume_chat": [],  # as `stream_chat`
    "stream_resumable_chat": [],
    "unload_model": ["/models/unload"],
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


pytestmark = pytest.mark.usefixtures("no_waiting")


def test_every_public_method_has_replies_here():
    assert {name.split(",")[0] for name in CALLS} == public_methods() - WITHOUT_REPLIES


@pytest.mark.parametrize("name", CALLS)
def test_the_replies_here_are_right_before_they_are_spoiled(name):
    call, replies = CALLS[name]
    result = StandIn().run(call, replies)
    assert isinstance(result, LlamaServerError) == (name in REFUSED), result


def spoiled_replies(name, values):
    """The replies of a call, each time with another odd value in a field. `values` of them for each field."""
    _, replies = CALLS[name]
    fields = [(path, place) for path in SPOILED.get(name, replies) for place in places(replies[path])]
    for number, (path, place) in enumerate(fields):
        step = len(ODD) // values
        for odd in ODD[number % step :: step]:
            yield {**replies, path: put(replies[path], place, odd)}, (path, place), odd


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("values", [1, pytest.param(len(ODD), marks=pytest.mark.long)])
def test_an_odd_value_in_any_field_of_a_reply_is_an_answer_or_a_typed_error(name, values):
    server, faults = StandIn(), {}
    for replies, place, odd in spoiled_replies(name, values):
        try:
            server.run(CALLS[name][0], replies)
        except Exception as error:  # every fault of a kind is shown, not the first alone
            faults.setdefault((*place, type(error).__name__), f"{odd!r:.60}: {error!s:.120}")
    assert not faults


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_random_json_in_any_field_of_a_reply_is_an_answer_or_a_typed_error(name, data):
    call, replies = CALLS[name]
    path = data.draw(st.sampled_from(sorted(replies)))
    place = data.draw(st.sampled_from(list(places(replies[path]))))
    spoiled = put(replies[path], place, data.draw(json_values))
    if isinstance(replies[path], Events) and data.draw(st.booleans()):
        spoiled = Events(spoiled) if isinstance(spoiled, list) else spoiled
    StandIn().run(call, {**replies, path: spoiled})


@pytest.mark.parametrize("status", [300, 400, 401, 404, 408, 429, 500, 502, 503])
def test_an_odd_value_in_any_field_of_an_error_is_a_typed_error(status):
    server = StandIn()
    for name in ("chat", "props", "embed", "tokenize", "health", "metrics", "create_message", "decide, native"):
        call, replies = CALLS[name]
        for number, place in enumerate(places(ERROR)):
            for odd in ODD[(status + number) % 4 :: 4]:
                error = put(ERROR, place, odd)
                result = server.run(call, dict.fromkeys(replies, error), status)
                if name != "props":
                    assert isinstance(result, LlamaServerError) or name == "health", (place, odd)
