"""Property tests: the same examples in every run, and no time limit for one, because machines are busy."""

import pytest
from hypothesis import settings

settings.register_profile("unit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("unit")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has retries come at once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
