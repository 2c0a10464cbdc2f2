"""The core's classes take any keyword and drop unknown ones without a word. Ours say which one was meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import Any


def refuse_unknown(values: Any, known: Collection[str], class_name: str) -> None:
    """Refuses a constructor's keyword that is no field.

    Raises:
        ValueError: With the nearest field.
    """
    for name in values if isinstance(values, dict) else ():
        if name not in known and name != "class_name":
            near = difflib.get_close_matches(name, known, n=1)
            hint = f": did you mean {near[0]!r}?" if near else "; request fields of newer servers go into extra_body"
            raise ValueError(f"{class_name} has no field {name!r}{hint}")
