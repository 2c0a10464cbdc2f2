"""Message histories that the server's template would refuse, repaired; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .always import ALWAYS as ALWAYS
    from .always import NO_RESULT as NO_RESULT
    from .always import REPAIRS as REPAIRS
    from .always import find_needs as find_needs
    from .always import repair_history as repair_history
    from .always import well_formed as well_formed
    from .templates import MEDIA_PARTS as MEDIA_PARTS
    from .templates import TEMPLATE_REPAIRS as TEMPLATE_REPAIRS

__getattr__, __dir__ = lazy(
    __name__,
    {
        "always": ("ALWAYS", "NO_RESULT", "REPAIRS", "find_needs", "repair_history", "well_formed"),
        "templates": ("MEDIA_PARTS", "TEMPLATE_REPAIRS"),
    },
)
