"""What the tests of one file share: the syntax trees that they walk."""

import gc
from collections.abc import Iterator

import pytest

from tests.rules import packages


@pytest.fixture(scope="module", autouse=True)
def _trees() -> Iterator[None]:
    """A million objects that all live: none is searched for garbage, and none is kept for the tests of other files."""
    gc.disable()
    yield
    packages.parsed.cache_clear()
    packages.nodes_of.cache_clear()
    gc.enable()
