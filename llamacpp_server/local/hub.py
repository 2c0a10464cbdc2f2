"""Models by their Hugging Face name: how llama-server is asked for one, and what its download is doing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from .options import FilePath

_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
# b11434, common/hf-cache.cpp and common/arg.cpp.
_FAILED: Final = re.compile(r"get_repo_commit: error: (.+)|failed to resolve commit|no GGUF files found|(40[134])\)?: ")


def hub_name(model: FilePath | None) -> str | None:
    """The Hugging Face name that `model` is, such as `org/repo:Q8_0`; None for a file."""
    if not isinstance(model, str) or not _NAME.fullmatch(model) or model.lower().endswith(".gguf"):
        return None
    return None if Path(model).exists() else model


def downloaded_bytes(name: str) -> int:
    """Bytes of a model that lie in llama-server's cache, those of a download that is still running included."""
    cache = next(
        (
            Path(os.environ[variable], *rest)
            for variable, rest in (("LLAMA_CACHE", ()), ("HF_HUB_CACHE", ()), ("HF_HOME", ("hub",)))
            if os.environ.get(variable)
        ),
        Path.home() / ".cache" / "huggingface" / "hub",
    )
    blobs = cache / f"models--{name.partition(':')[0].replace('/', '--')}" / "blobs"
    try:
        return sum(entry.stat().st_size for entry in os.scandir(blobs))
    except OSError:
        return 0


def download_failure(name: str, log: str) -> tuple[str, str] | None:
    """Why a model could not be downloaded, and what helps; None when the log does not speak of a download."""
    found = _FAILED.search(log)
    if found is None and "exactly one out metadata" not in log:
        return None
    said = (found[1] or "").strip(" :") if found else ""
    why = f"could not download {name} from Hugging Face" + (f" ({said})" if said else "")
    if "404" in said:
        return why, "check the spelling: LocalServer('org/repo:Q4_K_M'); gated repositories need HF_TOKEN"
    return why, "check the network, or pass the path of a GGUF file; cached models need no network"
