"""What passes the filters of a stream: the time of its first token."""

import pytest

from llamacpp_server import ChatDelta, Timings
from llamacpp_server._replies import FirstTokenTimer


@pytest.mark.parametrize(
    ("seen_after", "ended_after", "expected"),
    [
        pytest.param(0.3, 1.0, 300.0, id="seen at once"),
        pytest.param(0.9, 1.0, 500.0, id="seen when half of the others were there"),
        pytest.param(0.3, 0.4, 200.0, id="a server that counts more than the time that has passed"),
    ],
)
def test_a_first_token_that_is_seen_late_came_before_those_that_followed(
    seen_after: float, ended_after: float, expected: float
) -> None:
    times = iter([seen_after, ended_after])
    timer: FirstTokenTimer[ChatDelta] = FirstTokenTimer(lambda: next(times))
    assert timer.add([ChatDelta(content="a")]) == [ChatDelta(content="a")]
    [last] = timer.add([ChatDelta(timings=Timings(prompt_ms=200.0, predicted_ms=500.0))])
    assert last.timings is not None
    assert last.timings.first_token_ms == expected
