"""Field types that are read as one type and set from others. Type checkers see both; at run time it is the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

__all__ = ["ReadAs", "default_value"]

R = TypeVar("R", covariant=True)
G = TypeVar("G", contravariant=True)


def default_value(value: Any) -> Any:
    """The default of such a field. Type checkers would reject the plain value, which is not a descriptor."""
    return value


if TYPE_CHECKING:

    class ReadAs(Generic[R, G]):
        """A field that is read as the first type and set, or given to the constructor, as the second.

        A list that is annotated as one takes no tuple and no `list` of a narrower type, and a secret no string:
        checkers compare the field's own type. Of a descriptor they take the type of `__set__` for the constructor.
        """

        def __get__(self, model: object, owner: Any) -> R: ...

        def __set__(self, model: object, value: G) -> None: ...

else:

    class ReadAs:
        """A field that is read as the first type and set, or given to the constructor, as the second."""

        def __class_getitem__(cls, types):
            return types[0]
