"""What a model derives from its fields, kept from one call to the next for as long as the fields stay the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final, Generic, Self, TypeVar

T = TypeVar("T")

# The fields of `ConnectionFields` that become settings of a client, by their names there.
_SETTINGS: Final = (
    *("base_url", "api_key", "model", "connect_timeout", "read_timeout", "first_token_timeout", "total_timeout"),
    *("max_retries", "retry_read_timeout", "load_timeout", "wait_while_loading", "wait_while_refused"),
    *("max_concurrency", "priority", "verify", "on_wait", "on_progress"),
)
_of_settings: Final = itemgetter(*_SETTINGS)


class Kept(Generic[T]):
    """One value and what it was made from. Copies and pickles of a model begin with an empty one."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: tuple[object, T] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def __copy__(self) -> Self:
        return type(self)()

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The value that was made from an equal key, else a new one. A race of threads makes it twice, no more."""
        last = self._last
        if last is not None and last[0] == key:
            return last[1]
        made = make()
        self._last = key, made
        return made


class _State:
    """Values of fields, compared and not shown: some are secrets, and tracebacks show variables."""

    __slots__ = ("_values",)

    def __init__(self, *values: object) -> None:
        self._values = values

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _State) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]  # what can be changed in place has none


def settings_key(fields: Mapping[str, Any]) -> object:
    """What a model's settings depend on, as its fields are now; headers and queries may be changed in place.

    Args:
        fields: The model's `__dict__`.
    """
    headers, query = fields["default_headers"], fields["default_query"]
    # Equal addresses may differ in whether somebody gave them.
    return _State(_of_settings(fields), type(fields["base_url"]), dict(headers), dict(query))
