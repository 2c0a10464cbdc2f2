"""Wait and send again, or raise: every error against the settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import (
    AuthenticationFailedError,
    BadRequestError,
    ConnectionFailedError,
    ContextOverflowError,
    MalformedReplyError,
    NotFoundError,
    NotSupportedError,
    RequestTimeoutError,
    ServerBusyError,
    ServerFaultError,
    ServerLoadingError,
    ServerSettings,
    StreamCutOffError,
)
from llamacpp_server.transport import (
    MAX_RETRY_AFTER,
    RetryState,
    next_wait,
)

REFUSED = ConnectionFailedError(reason="refused")
CLOSED = ConnectionFailedError(reason="closed")
LOADING = ServerLoadingError()
BUSY = ServerBusyError()

DETERMINISTIC = [
    AuthenticationFailedError(), BadRequestError(), ContextOverflowError(), NotFoundError(), NotSupportedError(),
    ServerFaultError(), MalformedReplyError(), RequestTimeoutError(), StreamCutOffError(),
    ConnectionFailedError(reason="tls"),
]  # fmt: skip


def decide(error, settings=None, tried=None, elapsed=0.0, jitter=1.0):
    return next_wait(error, tried or RetryState(), elapsed, settings or ServerSettings(), jitter)


@pytest.mark.parametrize("error", DETERMINISTIC, ids=lambda e: getattr(e, "reason", type(e).__name__))
def test_what_a_repeat_cannot_help_is_raised_at_once(error):
    generous = ServerSettings(max_retries=99, wait_while_refused=True, wait_while_loading=True)
    assert decide(error, generous) is None


@pytest.mark.parametrize(
    ("error", "settings", "reason"),
    [
        (REFUSED, {}, None),
        (REFUSED, {"max_retries": 9}, None),
        (REFUSED, {"wait_while_refused": True}, "refused"),
        (REFUSED, {"wait_while_refused": True, "max_retries": 0}, "refused"),
        (REFUSED, {"wait_while_refused": True, "load_timeout": 0}, None),
        (LOADING, {}, "loading"),
        (LOADING, {"max_retries": 0}, "loading"),
        (LOADING, {"wait_while_loading": False}, None),
        (LOADING, {"wait_while_loading": False, "wait_while_refused": True}, None),
        (LOADING, {"load_timeout": 0}, None),
        (CLOSED, {"max_retries": 0}, "retry"),
        (BUSY, {}, "busy"),
        (BUSY, {"max_retries": 0}, None),
        (ConnectionFailedError(reason="timeout"), {}, "retry"),
        (ConnectionFailedError(reason="name"), {}, "retry"),
        (ConnectionFailedError(reason="other"), {}, "retry"),
        (ConnectionFailedError(reason="timeout"), {"max_retries": 0}, None),
    ],
)
def test_the_first_failure_against_the_settings(error, settings, reason):
    wait = decide(error, ServerSettings(**settings))
    assert (wait and wait.reason) == reason


def waits(error, settings, jitter=1.0):
    """All the waits until the error is raised, with a clock that runs only while waiting."""
    tried, elapsed, found = RetryState(), 0.0, []
    while (wait := next_wait(error, tried, elapsed, settings, jitter)) is not None:
        found.append(wait)
        elapsed += wait.seconds
        assert len(found) < 1000, "it never ends"
    return found


def unreached():
    """A gateway's answer that it did not reach the server."""
    error = ServerFaultError(status=502)
    error.reached = False
    return error


def test_a_server_that_a_gateway_does_not_reach_is_retried_or_waited_for():
    assert decide(unreached()).reason == "retry"
    assert decide(unreached(), ServerSettings(max_retries=0)) is None
    assert decide(unreached(), ServerSettings(max_retries=0, wait_while_refused=True)).reason == "refused"


def test_a_request_that_a_shared_context_has_no_room_for_is_not_repeated_here():
    error = ServerBusyError()
    error.shared_context = True
    assert decide(error, ServerSettings(max_retries=9)) is None


def test_nothing_is_repeated_while_a_layer_above_repeats():
    for error in (BUSY, unreached(), ConnectionFailedError(reason="timeout"), CLOSED):
        assert decide(error, tried=RetryState(above=True)) is None


def test_silence_is_repeated_where_that_is_asked_for_and_other_limits_never():
    asked = ServerSettings(retry_read_timeout=True)
    assert decide(RequestTimeoutError(limit="read_timeout"), asked).reason == "retry"
    for limit in ("total_timeout", "first_token_timeout", "write_timeout"):
        assert decide(RequestTimeoutError(limit=limit), asked) is None


def test_a_server_out_of_reach_is_retried_with_longer_pauses_as_often_as_max_retries_says():
    found = waits(ConnectionFailedError(reason="timeout"), ServerSettings(max_retries=3))
    assert [(wait.seconds, wait.reason) for wait in found] == [(0.25, "retry"), (0.5, "retry"), (1.0, "retry")]


def test_a_loading_server_is_asked_often_at_first_and_exactly_until_load_timeout():
    found = waits(LOADING, ServerSettings(load_timeout=30))
    seconds = [wait.seconds for wait in found]
    assert seconds[:7] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]
    assert max(seconds) == 2.0
    assert sum(seconds) == pytest.approx(30)
    assert {wait.budget for wait in found} == {30}


def test_waiting_for_a_load_spends_no_retries():
    tried, settings = RetryState(), ServerSettings(max_retries=1)
    for _ in range(20):
        assert next_wait(LOADING, tried, 0.0, settings, 1.0) is not None
    assert tried.retries == 0
    assert next_wait(BUSY, tried, 0.0, settings, 1.0) is not None
    assert next_wait(BUSY, tried, 0.0, settings, 1.0) is None


@pytest.mark.parametrize("retries", [0, 1, 2, 7])
def test_busy_is_repeated_as_often_as_max_retries_says(retries):
    assert len(waits(BUSY, ServerSettings(max_retries=retries))) == retries


def test_a_socket_that_closed_unanswered_is_sent_again_once_and_at_once():
    found = waits(CLOSED, ServerSettings(max_retries=9))
    assert [(wait.seconds, wait.reason) for wait in found] == [(0.0, "retry")]


def test_the_resend_is_apart_from_the_retries():
    tried, settings = RetryState(), ServerSettings(max_retries=1)
    assert next_wait(BUSY, tried, 0.0, settings, 1.0) is not None
    assert next_wait(CLOSED, tried, 0.0, settings, 1.0) is not None
    assert next_wait(BUSY, tried, 0.0, settings, 1.0) is None
    assert next_wait(CLOSED, tried, 0.0, settings, 1.0) is None


def test_backoff_doubles_up_to_eight_seconds():
    seconds = [wait.seconds for wait in waits(BUSY, ServerSettings(max_retries=8))]
    assert seconds == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]


@given(st.floats(0, 1), st.integers(0, 10))
def test_jitter_takes_away_at_most_half_and_adds_nothing(jitter, retries):
    full = decide(BUSY, ServerSettings(max_retries=99), RetryState(retries=retries), jitter=1.0)
    some = decide(BUSY, ServerSettings(max_retries=99), RetryState(retries=retries), jitter=jitter)
    assert full is not None
    assert some is not None
    assert full.seconds / 2 <= some.seconds <= full.seconds


def test_jitter_spreads():
    assert decide(BUSY, jitter=0.0) != decide(BUSY, jitter=1.0)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [(None, 0.25), (0.0, 0.25), (0.1, 0.25), (3.0, 3.0), (MAX_RETRY_AFTER, MAX_RETRY_AFTER),
     (MAX_RETRY_AFTER + 1, None), (float("inf"), None)],
)  # fmt: skip
def test_retry_after_is_honoured_up_to_its_cap_and_beyond_it_not_shortened(asked, seconds):
    wait = decide(ServerBusyError(retry_after=asked))
    assert (wait and wait.seconds) == seconds


@pytest.mark.parametrize(
    ("error", "elapsed", "waits_on"),
    [(ServerBusyError(retry_after=5), 0.0, True), (ServerBusyError(retry_after=5), 5.1, False),
     (ServerBusyError(retry_after=10), 0.0, False), (LOADING, 9.0, True), (LOADING, 9.99, False), (CLOSED, 9.9, True),
     (CLOSED, 10.0, False)],
)  # fmt: skip
def test_no_wait_goes_beyond_total_timeout(error, elapsed, waits_on):
    wait = decide(error, ServerSettings(total_timeout=10), elapsed=elapsed)
    assert (wait is not None) is waits_on


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_waiting_ends_within_both_limits(load_timeout, total_timeout):
    found = waits(LOADING, ServerSettings(load_timeout=load_timeout, total_timeout=total_timeout))
    waited = sum(wait.seconds for wait in found)
    assert waited <= min(load_timeout, total_timeout) + 1e-6
