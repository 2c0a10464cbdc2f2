"""Waits for what a server, a thread or another process does: until it has happened, with a bound and a message.

A test that sleeps for a while and then looks fails on a busy machine; one that looks without a bound hangs there
until it is killed, without a word.
"""

import time
from collections.abc import Callable
from typing import Final

from llamacpp_server import LocalServer
from llamacpp_server.transport import gate_for

LONG: Final = 30.0
"""Seconds: far more than anything takes that tests wait for, also on a machine with many times the load."""

TIMEOUTS: Final = (0.1, 1.0, LONG)
"""Seconds, to be tried one after the other where a part of the answer must come within a timeout that then ends it."""


def wait_until(true: Callable[[], object], what: str, seconds: float = LONG) -> None:
    """Wait until something holds.

    Args:
        true: Looks whether it does.
        what: What is waited for, for the message.
        seconds: After which the test fails.
    """
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.002)


def busy_slots(server: LocalServer) -> int:
    with server.client() as client:
        return sum(slot.is_processing for slot in client.slots())


def wait_until_busy(server: LocalServer, slots: int = 1) -> None:
    """Wait until at least as many slots of a server work."""
    wait_until(lambda: busy_slots(server) >= slots, f"{slots} busy slots")


def wait_until_queued(server: LocalServer, number: int = 1, model: str | None = None) -> None:
    """Wait until as many requests of this process wait for a place at a server."""
    gate = gate_for(server.base_url, model)
    wait_until(lambda: len(gate.state().queue) == number, f"{number} waiting requests")
