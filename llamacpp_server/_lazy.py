"""Lazy packages: a name is imported when it is first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["lazy", "require_extra"]


def lazy(
    package: str, names: Mapping[str, Iterable[str]], needs: tuple[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`.

    Args:
        package: Its name.
        names: The names that it offers, by the module that has them.
        needs: A module that all of them need, and the extra that installs it.
    """
    homes = {name: module for module, offered in names.items() for name in offered}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if needs is not None:
            require_extra(*needs)
        value = getattr(import_module(f".{homes[name]}", package), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return load, listed


def require_extra(module: str, extra: str) -> None:
    """Raise an error that names the extra if a module is not installed; imports only the module's parents.

    Args:
        module: A module of the framework.
        extra: The extra of this distribution.

    Raises:
        ModuleNotFoundError: When there is no such module; `name` is the module.
    """
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # a parent is missing
        found = None
    if found is None:
        raise ModuleNotFoundError(f"{module} is not installed: pip install 'llamacpp-server[{extra}]'", name=module)
