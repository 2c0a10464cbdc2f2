"""Many requests from a file of JSON lines as one job, whose results come as they are ready and that can be resumed.

`lines` reads the input and says what a reply is as a line; `journal` owns the output file, which is all that a resumed
job needs to know; `run` does the work, with threads or with tasks. The requests go through the client, so that waits,
retries and the limit of the server's slots are its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy

if TYPE_CHECKING:
    from .journal import Journal as Journal
    from .run import BatchProgress as BatchProgress
    from .run import BatchSummary as BatchSummary
    from .run import arun_batch as arun_batch
    from .run import run_batch as run_batch

__getattr__, __dir__ = lazy(
    __name__, {"journal": ("Journal",), "run": ("BatchProgress", "BatchSummary", "arun_batch", "run_batch")}
)
