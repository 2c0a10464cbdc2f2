"""Run many requests from a JSON Lines file as one resumable job.

`lines` parses input lines and formats output lines; `journal` owns the output file, the only state that a resumed job
needs; `run` does the work, with threads or with tasks. Requests go through the client, so its waits, retries and
concurrency limit apply.
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
