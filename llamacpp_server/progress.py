"""Progress of downloads, model loading, waiting and prompt processing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Literal, Self

from ._values import fields, figure, integer, text, texts
from .errors import NotSupportedError
from .replies import PromptProgress

__all__ = ["ModelEvent", "Progress", "ProgressBar"]

Stage = Literal["downloading", "loading", "waiting", "reading"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of loading, waiting or prompt processing, passed to `on_progress`.

    Attributes:
        stage: `downloading` or `loading` a model, `waiting` for a server that is busy or not listening yet, or
            `reading` a prompt.
        done: Units completed.
        total: Total units; None if unknown. For `seconds`, the time after which the wait ends in an error.
        unit: `bytes`, `tokens`, `seconds`, or `part` (a fraction of 1).
        cached: Prompt tokens that came from the cache; `done` includes them.
        model: Name of the model, if reported.
    """

    stage: Stage
    done: float
    total: float | None
    unit: Literal["bytes", "tokens", "seconds", "part"]
    cached: int = 0
    model: str = ""

    @property
    def fraction(self) -> float | None:
        """Fraction completed, from 0 to 1; None if unknown, as for a wait."""
        return self.done / self.total if self.total and self.unit != "seconds" else None

    def as_dict(self) -> dict[str, Any]:
        """Return the progress as a dict for JSON."""
        return asdict(self)

    @classmethod
    def of_prompt(cls, progress: PromptProgress) -> Self:
        """Create the progress of prompt processing."""
        return cls("reading", progress.processed, progress.total, "tokens", progress.cache)


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """An event about a model of a router (or of llama-swap).

    Attributes:
        model: Name of the model; `*` for all.
        event: The server's name of the event: `model_status`, `status_change`, `download_progress`,
            `download_finished`, `download_failed`, `model_remove`, `models_reload` (b11434).
        status: As in `ModelCard`; None if the event does not change it.
        progress: Progress of loading or downloading; None if not reported.
        exit_code: Exit code of an unloaded model; not 0 if loading failed.
        raw: The event as the server sent it.
    """

    model: str
    event: str
    status: str | None = None
    progress: Progress | None = None
    exit_code: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, event: Mapping[str, Any]) -> Self:
        """Read an event of `/models/sse`."""
        model, data = str(event.get("model") or ""), fields(event.get("data"))
        code, status = integer(data.get("exit_code")), text(data.get("status")) or None
        return cls(
            model=model,
            event=str(event.get("event") or ""),
            status="failed" if status == "unloaded" and code else status,
            progress=_progress(model, str(event.get("event")), data.get("progress")),
            exit_code=code,
            raw=event,
        )


def _progress(model: str, event: str, wire: Any) -> Progress | None:
    if not isinstance(wire, Mapping):
        return None
    if event == "download_progress":
        files = list(wire.values())
        done, total = (sum(figure(fields(file).get(name)) or 0 for file in files) for name in ("done", "total"))
        return Progress("downloading", done, total or None, "bytes", model=model)
    stages, current = texts(wire.get("stages")), wire.get("current")
    before = stages.index(current) if isinstance(current, str) and current in stages else 0
    part = figure(wire.get("value")) or 0.0
    return Progress("loading", (before + part) / max(len(stages), 1), 1.0, "part", model=model)


class ProgressBar:
    """Progress bar for the terminal: `on_progress=ProgressBar()`. It disappears when it is complete.

    Args:
        library: `tqdm` (a dependency of LlamaIndex) or `rich`; None uses the installed one.

    Raises:
        NotSupportedError: If it is not installed.
    """

    def __init__(self, library: Literal["tqdm", "rich"] | None = None) -> None:
        self._bar = _bar(library)
        self._stage: str | None = None

    def __call__(self, progress: Progress) -> None:
        """Shows it."""
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
            self._bar.open(" ".join(filter(None, (progress.stage, progress.model))), progress)
        self._bar.show(progress)
        if progress.fraction is not None and progress.fraction >= 1:
            self.close()

    def close(self) -> None:
        """Remove the bar; the next progress shows a new one."""
        if self._stage is not None:
            self._stage = None
            self._bar.close()


def _bar(library: str | None) -> _Tqdm | _Rich:
    for name, kind in (("tqdm", _Tqdm), ("rich", _Rich)):
        if library in (None, name):
            try:
                return kind()
            except ImportError:
                continue
    words = library or "neither tqdm nor rich"
    raise NotSupportedError(f"{words} is not installed", remedy=f"pip install {library or 'tqdm'}")


class _Tqdm:
    def __init__(self) -> None:
        self._make = import_module("tqdm").tqdm
        self._bar: Any = None

    def open(self, title: str, progress: Progress) -> None:
        self._bar = self._make(desc=title, unit=f" {progress.unit}", leave=False)

    def show(self, progress: Progress) -> None:
        self._bar.total = None if progress.fraction is None else progress.total
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Rich:
    def __init__(self) -> None:
        self._make = import_module("rich.progress").Progress
        self._bar: Any = None
        self._task: Any = None

    def open(self, title: str, progress: Progress) -> None:
        self._bar = self._make(transient=True)
        self._bar.start()
        self._task = self._bar.add_task(title, total=None)

    def show(self, progress: Progress) -> None:
        total = None if progress.fraction is None else progress.total
        self._bar.update(self._task, completed=progress.done, total=total)

    def close(self) -> None:
        self._bar.stop()
