"""Files on this machine that a local server needs: models in a directory, and the error for what is not there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .._printable import printable
from ..errors import LlamaServerError
from .options import FilePath

__all__ = ["LocalModel", "LocalServerError", "check_files", "choose_model", "find_models", "full_name"]


class LocalServerError(LlamaServerError):
    """A local server could not be started, or is not running.

    Attributes:
        exit_code: Exit code of the server's process, 128 + n for signal n; None if it did not exit by itself.
        log: Last lines of its log; "" if there are none.
    """

    def __init__(self, message: str = "", *, exit_code: int | None = None, log: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.exit_code = exit_code
        self.log = log

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\nEnd of the server log:\n{printable(self.log)}" if self.log else text


_NEEDED: Final = (
    "model", "mmproj", "draft_model", "slot_save_path", "media_path",
    "chat_template_file", "models_dir", "models_preset",
)  # fmt: skip
_READ_AS_FILE: Final = frozenset({"model", "mmproj", "draft_model"})
_READ_AS_DIRECTORY: Final = frozenset({"slot_save_path", "media_path", "models_dir"})


def check_files(options: Mapping[str, Any]) -> None:
    """Names a missing file, which the server would do somewhere in its log, or not at all.

    Raises:
        LocalServerError: For the first one.
    """
    for name in _NEEDED:
        if (path := options.get(name)) is None:
            continue
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            missing = "not found" if isinstance(error, FileNotFoundError) else f"can't be opened ({error.strerror})"
            raise LocalServerError(f"{name} {missing}: {os.fspath(path)}", remedy="check the path") from None
        if name in _READ_AS_FILE and not stat.S_ISREG(mode):  # of a pipe, the server would wait for a writer
            raise LocalServerError(f"{name} is not a file: {os.fspath(path)}", remedy="check the path")
        if name in _READ_AS_DIRECTORY and not stat.S_ISDIR(mode):
            raise LocalServerError(f"{name} is not a directory: {os.fspath(path)}", remedy="check the path")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model file in a directory.

    Attributes:
        name: File name without its extension, and without the part number of a split model.
        path: The file; the first part of a split model.
        size: Size of all parts, in bytes.
        mmproj: The projector in the same directory, if there is one and no other model.
    """

    name: str
    path: Path
    size: int
    mmproj: Path | None = None


_PART: Final = re.compile(r"-(\d{5})-of-\d{5}$")


def full_name(path: Path) -> str:
    """The file's name without its ending and without the number of a split model's part."""
    return _PART.sub("", path.stem)


def find_models(directory: FilePath) -> list[LocalModel]:
    """Find the models in a directory and below it, by name, without projectors and later parts of split models.

    Raises:
        LocalServerError: If the directory does not exist.
    """
    root = Path(directory)
    if not root.is_dir():
        raise LocalServerError(f"directory not found: {root}")
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() == ".gguf" and path.is_file())
    models: dict[Path, list[Path]] = {}
    projectors: dict[Path, list[Path]] = {}
    for path in files:
        if path.name.lower().startswith("mmproj"):
            projectors.setdefault(path.parent, []).append(path)
        else:
            models.setdefault(path.with_name(full_name(path)), []).append(path)
    beside = [path.parent for path in models]
    found = []
    for full, parts in models.items():
        near = projectors.get(full.parent, [])
        mmproj = near[0] if len(near) == 1 and beside.count(full.parent) == 1 else None
        found.append(LocalModel(full.name, parts[0], sum(part.stat().st_size for part in parts), mmproj))
    return sorted(found, key=lambda model: (model.name.lower(), model.path))


def choose_model(models: Sequence[LocalModel], name: str | None, directory: FilePath) -> LocalModel:
    """The model with this name, else the only one whose path contains it; upper and lower case are alike.

    Raises:
        LocalServerError: When none or several fit.
    """
    wanted = (name or "").lower()
    exact = [model for model in models if name is not None and model.name.lower() == wanted]
    fitting = exact or [model for model in models if wanted in str(model.path.relative_to(directory)).lower()]
    if len(fitting) == 1:
        return fitting[0]
    shown = ", ".join(str(model.path.relative_to(directory)) for model in fitting or models) or "no models"
    asked = (
        "several models"
        if name is None
        else f"several models match {name!r}"
        if fitting
        else f"no model matches {name!r}"
    )
    raise LocalServerError(f"{asked} in {os.fspath(directory)}: {shown}", remedy="use a name that matches only one")
