"""Tells whoever listens of waits, and how far a prompt is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ..chat import ChatDelta, CompletionDelta
from ..progress import Progress
from .filters import DeltaFilter

D = TypeVar("D", ChatDelta, CompletionDelta)


class ProgressFilter(DeltaFilter[D]):
    """Tells the progress, and keeps it out of the deltas where it was asked for on that account only.

    Args:
        report: Called for each step.
        keep: Whether deltas hold the progress as well.
    """

    def __init__(self, report: Callable[[Progress], None], *, keep: bool) -> None:
        self._report = report
        self._keep = keep

    def add(self, deltas: list[D]) -> list[D]:
        """The deltas, whose progress is told."""
        if not any(delta.progress for delta in deltas):
            return deltas
        kept: list[D] = []
        for delta in deltas:
            if delta.progress is not None:
                self._report(Progress.of_prompt(delta.progress))
            rest = delta if self._keep or delta.progress is None else delta._replace(progress=None)
            if rest != type(delta)():
                kept.append(rest)
        return kept
