"""Live state of a server, for `llamacpp-server top`.

`snapshot` queries a server without using a slot; `table` renders a snapshot, with rates from the difference to the one
before. Only `table` imports rich (the extra `top`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .snapshot import Snapshot as Snapshot
    from .snapshot import as_json as as_json
    from .snapshot import take_snapshot as take_snapshot
    from .table import screen as screen
    from .table import show as show
    from .table import watch as watch

__getattr__, __dir__ = lazy(
    __name__, {"table": ("screen", "show", "watch"), "snapshot": ("Snapshot", "as_json", "take_snapshot")}
)
