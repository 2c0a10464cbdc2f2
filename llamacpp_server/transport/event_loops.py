"""Which event loop runs, on asyncio and trio."""

from __future__ import annotations

import asyncio
from typing import Any


def current_loop() -> Any:
    """The running event loop (asyncio) or its token (trio), one object for as long as it runs.

    `anyio.lowlevel.current_token` makes a new object at each call, so a weak dictionary would forget it at once.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio  # only where trio runs the caller

        return trio.lowlevel.current_trio_token()
