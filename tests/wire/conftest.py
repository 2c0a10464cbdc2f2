"""`connect` makes a client, blocking or awaiting by turns, and closes it after the test. Its pauses are short."""

import pytest

from tests import behind_doors
from tests.wire.shells import SHELLS


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    """How long they are is a decision of its own (tests/unit/transport/test_retry.py); here they only have to come."""
    monkeypatch.setattr(behind_doors.FIRST_BACKOFF, 0.01)
    monkeypatch.setattr(behind_doors.FIRST_POLL, 0.002)


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.kind)
def connect(request):
    """Makes clients with the settings of a test; every test that uses it runs blocking and awaiting."""
    made = []

    def make(base_url, **fields):
        fields = {"connect_timeout": 2.0, "read_timeout": 5.0, "load_timeout": 5.0, **fields}
        made.append(request.param(base_url, **fields))
        return made[-1]

    yield make
    for shell in made:
        shell.shut()
