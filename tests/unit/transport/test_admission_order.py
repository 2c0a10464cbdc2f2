"""Who is next where more requests wait than a server has slots."""

import itertools
import sys
from functools import partial
from types import SimpleNamespace

import pytest

from llamacpp_server import ServerSettings
from llamacpp_server.transport import Gate, Place, Ticket, conversation, gate_for

module = sys.modules[Gate.__module__]
THREADS = itertools.count(-1, -1)


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slot is kept for a conversation, which depends on how long it ran; tests of that set a clock."""
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 0.0))


def entered(gate: Gate, **options: object) -> Ticket:
    ticket = Ticket()
    place = Place(**options)  # type: ignore[arg-type]
    place.thread = next(THREADS)
    ticket.enter(gate, place)
    return ticket


def busy(slots: int = 1, **options: object) -> tuple[Gate, list[Ticket]]:
    """A gate whose slots are all taken."""
    gate = Gate()
    running = [entered(gate, **options)]
    gate.resize(slots)
    running += [entered(gate, **options) for _ in range(slots - 1)]
    assert all(ticket.granted for ticket in running)
    return gate, running


def order(gate: Gate, running: list[Ticket], waiting: dict[str, Ticket]) -> list[str]:
    """The names of those that wait, in the order in which they run."""
    found, running = list[str](), list(running)
    while waiting:
        running.pop(0).leave()
        (name,) = (name for name, ticket in waiting.items() if ticket.granted)
        running.append(waiting.pop(name))
        found.append(name)
    for ticket in running:
        ticket.leave()
    return found


def test_first_come_first_served_among_equals() -> None:
    gate, running = busy()
    assert order(gate, running, {name: entered(gate) for name in "abc"}) == ["a", "b", "c"]


def test_background_requests_go_behind_all_others() -> None:
    gate, running = busy()
    waiting = {"title": entered(gate, background=True), "a": entered(gate), "b": entered(gate)}
    assert order(gate, running, waiting) == ["a", "b", "title"]


def test_a_conversation_whose_prompt_is_in_a_slot_goes_first() -> None:
    gate, running = busy(session=1)
    waiting = {"cold": entered(gate, session=2), "warm": entered(gate, session=1)}
    assert order(gate, running, waiting) == ["warm", "cold"]


def test_as_many_conversations_are_warm_as_there_are_slots() -> None:
    gate, (one, *rest) = busy(2, session=1)
    one.leave()
    two = entered(gate, session=2)
    assert two.granted
    waiting = {"cold": entered(gate, session=3), "2": entered(gate, session=2), "1": entered(gate, session=1)}
    assert order(gate, [two, *rest], waiting) == ["2", "1", "cold"]


def test_a_cold_conversation_is_not_passed_by_for_ever() -> None:
    gate, running = busy(session=1)
    cold, passed = entered(gate, session=2), 0
    while not cold.granted:
        running.append(entered(gate, session=1))
        running.pop(0).leave()
        passed += 1
        assert passed < 10
    assert passed > 2


def test_a_background_request_is_not_passed_by_for_ever() -> None:
    gate, running = busy()
    title, passed = entered(gate, background=True), 0
    while not title.granted:
        running.append(entered(gate))
        running.pop(0).leave()
        passed += 1
        assert passed < 40
    assert passed > 10


def test_a_foreground_request_is_let_in_where_only_background_ones_wait_for_a_router() -> None:
    loaded, other = gate_for("http://order.test", "a"), gate_for("http://order.test", "b")
    running = entered(loaded, model="a")
    title = entered(other, model="b", background=True)
    assert not title.granted, "its model might be swapped in for it alone"
    question = entered(other, model="b")
    assert question.granted
    other.resize(2)
    assert title.granted, "the model is in use anyway"
    for ticket in (title, question, running):
        ticket.leave()


def test_a_background_request_swaps_a_model_when_nothing_else_is_to_do() -> None:
    loaded, other = gate_for("http://order2.test", "a"), gate_for("http://order2.test", "b")
    running, waits = entered(loaded, model="a"), entered(loaded, model="a")
    title = entered(other, model="b", background=True)
    running.leave()
    assert not title.granted
    waits.leave()
    assert title.granted
    title.leave()


def test_two_servers_do_not_hold_each_other_up() -> None:
    running = entered(gate_for("http://order3.test", "a"), model="a")
    title = entered(gate_for("http://order4.test", "b"), model="b", background=True)
    assert title.granted
    title.leave()
    running.leave()


def test_a_conversation_is_known_by_its_beginning() -> None:
    begun = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    later = [*begun, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "How are you?"}]
    other = [begun[0], {"role": "user", "content": "Ho"}]
    assert conversation({"messages": begun}) == conversation({"messages": later}) != conversation({"messages": other})
    assert conversation({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}) is not None


@pytest.mark.parametrize("body", [None, b"x", {}, {"messages": []}, {"messages": ["hi"]}, {"messages": "hi"}])
def test_only_a_conversation_has_a_number(body: object) -> None:
    assert conversation(body) is None


def test_a_priority_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="'normal' or 'background', got 'low'"):
        ServerSettings(priority="low")  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The gate's clock, which stands still."""
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def between_turns(clock: list[float], *, ran: float = 10.0, **options: object) -> tuple[Gate, Ticket]:
    """A gate of one slot that a conversation has just left, which had come back once, and one that waits for it."""
    gate, (first,) = busy(session=1, **options)
    first.leave()
    second = entered(gate, session=1, **options)
    waits = entered(gate, session=2)
    clock[0] += ran
    second.leave()
    return gate, waits


def test_the_next_turn_of_a_conversation_gets_the_slot_that_it_has_just_left(clock: list[float]) -> None:
    gate, waits = between_turns(clock)
    assert not waits.granted
    following = entered(gate, session=1)
    assert following.granted and not waits.granted
    following.leave()
    clock[0] += 1
    gate.settle()
    assert waits.granted


@pytest.mark.parametrize(("ran", "kept"), [(10.0, 0.005), (0.02, 0.002)])
def test_a_slot_is_kept_for_5_ms_and_for_a_tenth_of_the_time_that_the_turn_took(
    clock: list[float], ran: float, kept: float
) -> None:
    gate, waits = between_turns(clock, ran=ran)
    assert gate.look_in() == pytest.approx(kept)
    clock[0] += 0.9 * kept
    gate.settle()
    assert not waits.granted
    clock[0] += 0.2 * kept
    gate.settle()
    assert waits.granted
    assert gate.look_in() is None


def test_no_slot_is_kept_for_a_conversation_that_never_came_back(clock: list[float]) -> None:
    gate, (first,) = busy(session=1)
    waits = entered(gate, session=2)
    clock[0] += 10
    first.leave()
    assert waits.granted


def test_no_slot_is_kept_for_background_requests(clock: list[float]) -> None:
    assert between_turns(clock, background=True)[1].granted


def test_what_has_waited_long_is_not_held_back_for_a_next_turn(clock: list[float]) -> None:
    gate, (first,) = busy(session=1)
    first.leave()
    running, cold, turns = entered(gate, session=1), entered(gate, session=2), 0
    while not cold.granted:
        clock[0] += 10
        running.leave()
        if not cold.granted:
            running = entered(gate, session=1)
            turns += 1
        assert turns < 10
    assert turns > 2


def test_other_slots_are_not_kept(clock: list[float]) -> None:
    gate, (first, other) = busy(2, session=1)
    first.leave()
    second = entered(gate, session=1)
    waiting = [entered(gate, session=number) for number in (3, 4)]
    clock[0] += 10
    second.place.left = other.place.left = True
    gate.settle()
    assert [ticket.granted for ticket in waiting] == [True, False], "one of the two slots is kept"


def test_a_slot_is_kept_for_each_conversation_that_may_come_back(clock: list[float]) -> None:
    gate, first = busy(2, session=1)
    first += [entered(gate, session=2), entered(gate, session=1)]  # conversation 1 has come back
    for ticket in first[:2]:
        ticket.leave()
    second = entered(gate, session=2)
    waits = entered(gate, session=3)
    clock[0] += 10
    for ticket in first[2:]:
        ticket.leave()
    assert second.granted
    clock[0] += 0.004
    second.leave()
    assert not waits.granted, "both slots are kept"
    clock[0] += 0.002
    gate.settle()
    assert waits.granted, "one is kept no longer"


def test_one_that_waits_looks_again_when_the_slot_is_kept_no_longer(clock: list[float]) -> None:
    gate, (first,) = busy(session=1)
    first.leave()
    second = entered(gate, session=1)
    waiting, woken = [entered(gate, session=number) for number in (2, 3)], list[int]()
    for number, ticket in enumerate(waiting):
        ticket.place.wake = partial(woken.append, number)
    clock[0] += 10
    second.leave()
    assert woken == [0]
    waiting[0].leave()
    assert woken == [0, 1]
