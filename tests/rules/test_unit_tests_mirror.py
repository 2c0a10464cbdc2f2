"""Unit tests stand where a reader looks for them: a directory for each package, named as it is."""

from pathlib import Path

import llamacpp_server

PACKAGES = Path(llamacpp_server.__file__).parent
UNIT = Path(__file__).parents[1] / "unit"
OF_EVERY_ENTRY_POINT = {"test_any_input.py", "test_any_reply.py", "test_secrets.py"}
OTHERS = {"values", "adapters"}  # the root modules of `llamacpp_server`, and what both adapters do


def test_each_directory_of_unit_tests_is_named_after_a_package() -> None:
    packages = {path.parent.name.lstrip("_") for path in PACKAGES.glob("*/__init__.py")}
    directories = {path.parent.name for path in UNIT.glob("*/test_*.py")}
    assert directories - OTHERS <= packages


def test_only_tests_of_every_entry_point_are_outside_the_directories() -> None:
    assert {path.name for path in UNIT.glob("test_*.py")} == {
        "test_any_input.py",
        "test_any_reply.py",
        "test_call_counts.py",
        "test_secrets.py",
    }
