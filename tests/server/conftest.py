"""`connect` makes a client of a real server, blocking or awaiting by turns, and closes it after the test."""

import pytest

from tests.wire.shells import SHELLS


@pytest.fixture(params=SHELLS, ids=lambda shell: shell.kind)
def connect(request):
    """Takes a `LocalServer` or an address; every test that uses it runs blocking and awaiting."""
    made = []

    def make(server, **fields):
        made.append(request.param(getattr(server, "base_url", server), **fields))
        return made[-1]

    yield make
    for shell in made:
        shell.shut()
