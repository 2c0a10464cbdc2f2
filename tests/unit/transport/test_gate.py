"""The gate takes no lock, so that an interrupt, a finaliser or a fork may come at any line of it."""

import gc
import itertools
import sys
import threading
import time
import weakref
from dataclasses import fields, replace
from functools import partial

import pytest

from llamacpp_server.transport import Gate, Place, Ticket

CHANGED_BY_A_GRANT = ("held", "queue", "grants", "warm", "kept", "next")

module = sys.modules[Gate.__module__]
PATIENCE = sys.modules[Place.__module__].PATIENCE
OTHER_THREADS = itertools.count(-1, -1)


def entered(gate, **attributes):
    """A ticket that has entered the gate, in a thread of its own unless one is named."""
    attributes = {"thread": next(OTHER_THREADS), **attributes}
    place = Place(
        **{name: value for name, value in attributes.items() if name in ("model", "slot", "limit", "counted")}
    )
    for name, value in attributes.items():
        setattr(place, name, value)
    ticket = Ticket()
    ticket.enter(gate, place)
    return ticket


class Loop:
    """As much of an event loop as the gate looks at."""

    def __init__(self, running=True, closed=False):
        self.running, self.closed = running, closed

    def is_running(self):
        return self.running

    def is_closed(self):
        return self.closed


def use(gate):
    """What a request does with its ticket."""
    ticket = Ticket()
    try:
        ticket.enter(gate, Place())
    finally:
        ticket.place.left = True
        ticket.leave()


def interrupted_at(number, function):
    """Runs a function with a KeyboardInterrupt at its nth line in the gate's module or in `use`; whether it came."""
    left, came = number, False

    def trace(frame, event, arg):
        nonlocal left, came
        if frame.f_code.co_filename not in (module.__file__, __file__):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                came = True
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return came


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python drops those in a finaliser
@pytest.mark.parametrize("waiting", [0, 3], ids=["alone", "with others in front"])
def test_an_interrupt_at_any_line_leaves_no_place_behind(waiting):
    number, came = 0, True
    while came:
        number += 1
        gate = Gate()
        others = [entered(gate) for _ in range(waiting)]
        came = interrupted_at(number, partial(use, gate))
        for other in others:
            other.leave()
        use(gate)
        assert not gate.state().held, f"the interrupt at line {number} keeps a place"
        assert not gate.state().queue, f"the interrupt at line {number} keeps a waiting place"
    assert number > 50


def test_a_collection_at_any_line_lets_the_next_one_in():
    """A finaliser gives its place back in the middle of a change that the same thread makes."""
    number, came = 0, True
    gc.collect()
    gc.freeze()  # what other tests left makes each of the many collections long
    while came:
        number += 1
        gate = Gate()
        cycle = [entered(gate)]
        cycle.append(cycle)
        del cycle
        came, left = False, number

        def trace(frame, event, arg):
            nonlocal left, came
            if frame.f_code.co_filename != module.__file__:
                return None
            left -= event == "line"
            if left == 0 and not came:
                came = True
                gc.collect()
            return trace

        gc.disable()
        sys.settrace(trace)
        try:
            mine = entered(gate)
        finally:
            sys.settrace(None)
            gc.enable()
        if came:
            assert mine.granted, f"a collection at line {number} keeps the place"
        gc.collect()
    assert number > 20


def test_threads_that_come_and_go_are_never_more_than_the_limit():
    gate, most, running, lock = Gate(), 0, 0, threading.Lock()

    def work():
        nonlocal most, running
        for _ in range(60):
            rung = threading.Event()
            ticket, place = Ticket(), Place(limit=3)
            place.wake = rung.set
            ticket.enter(gate, place)
            while not ticket.granted:
                assert rung.wait(20), "nobody woke it"
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0)
            with lock:
                running -= 1
            ticket.leave()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(before)
    assert most == 3
    assert not gate.state().held
    assert not gate.state().queue


def test_each_request_keeps_its_own_limit():
    gate = Gate()
    first, second = entered(gate, limit=1), entered(gate, limit=4)
    gate.resize(2)
    third, fourth = entered(gate, limit=4), entered(gate, limit=1)
    assert [ticket.granted for ticket in (first, second, third, fourth)] == [True, True, True, False]
    assert not entered(gate).granted
    for ticket in (first, second):
        ticket.leave()
    assert not fourth.granted
    third.leave()
    assert fourth.granted


def test_one_more_runs_for_each_reader_that_pauses():
    gate = Gate()
    streams = [entered(gate, thread=n) for n in range(1, 5)]
    for number in range(3):
        assert [stream.granted for stream in streams] == [True] * (number + 1) + [False] * (3 - number)
        streams[number].place.paused = time.monotonic() - PATIENCE / 2
        gate.settle()
        assert not streams[number + 1].granted, "a short pause is none"
        streams[number].place.paused = time.monotonic() - PATIENCE
        gate.settle()
    for stream in streams:
        stream.place.paused = None
    late = entered(gate, thread=9)
    assert not late.granted


@pytest.mark.parametrize("loop", [Loop(running=False), Loop(closed=True, running=False)], ids=["stopped", "closed"])
def test_a_place_of_an_event_loop_that_does_not_run_holds_nobody_up(loop):
    gate = Gate()
    holder = entered(gate, loop=weakref.ref(loop), thread=1)
    waiter = entered(gate, thread=2)
    assert holder.place in gate.state().held or loop.closed
    assert waiter.granted
    assert gate.running() == (1 if loop.closed else 2)


def test_a_place_of_an_event_loop_that_is_gone_is_given_back():
    gate, loop = Gate(), Loop()
    held = entered(gate, loop=weakref.ref(loop), thread=1)
    del loop
    assert entered(gate, thread=2).granted
    assert held.place not in gate.state().held


def test_a_blocking_request_does_not_wait_for_its_own_thread():
    gate, loop = Gate(), Loop()
    here = threading.get_ident()
    entered_by_loop = entered(gate, loop=weakref.ref(loop), thread=here)
    waiting_task = entered(gate, loop=weakref.ref(loop), thread=here)
    elsewhere = entered(gate, thread=1)
    assert [ticket.granted for ticket in (entered_by_loop, waiting_task, elsewhere)] == [True, False, False]
    blocking = entered(gate, thread=here)
    assert blocking.granted
    assert not waiting_task.granted, "the loop goes on by itself"


def test_a_ticket_that_is_collected_gives_its_place_back():
    gate = Gate()
    ticket = entered(gate, thread=1)
    other = entered(gate, thread=2)
    assert not other.granted
    del ticket
    assert other.granted


def test_a_request_that_is_let_in_changes_nothing_else_that_the_gate_knows():
    gate = Gate()
    known = {field.name: object() for field in fields(gate.state()) if field.name not in CHANGED_BY_A_GRANT}
    assert {"size", "context", "divided", "asking"} <= known.keys()
    gate._state = replace(gate.state(), **known, next={})
    gate.enter(Place(limit=1))
    state = gate.state()
    assert len(state.held) == 1
    assert {name: getattr(state, name) for name in known} == known
