"""A repaired conversation begins as its own beginning was repaired, so a repair never costs the server's cache."""

from typing import Any

import pytest

from llamacpp_server._history import (
    TEMPLATE_REPAIRS,
    repair_history,
)
from tests.corpus.histories import HISTORIES

NEEDS = [(), *((name,) for name in TEMPLATE_REPAIRS), tuple(TEMPLATE_REPAIRS)]


def turns(history: list[Any]) -> list[int]:
    """Where a request was sent: the answer to it comes next."""
    sent = [n for n, message in enumerate(history) if message["role"] == "assistant" and n]
    return [n for n in sent if history[n - 1]["role"] in ("user", "tool", "function")]


@pytest.mark.parametrize("needs", NEEDS, ids=lambda names: "+".join(names)[:30] or "none")
def test_the_beginning_of_a_repaired_history_stays(needs):
    tried = 0
    for name, history in HISTORIES.items():
        full, _ = repair_history([*history], needs)
        for end in turns(history):
            beginning, _ = repair_history(history[:end], needs)
            assert full[: len(beginning)] == beginning, name
            tried += 1
    assert tried > 20
