"""Estimates of a model's memory, from the header of its GGUF file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .gguf import read_metadata
from .options import FilePath

# Bits of one number in the cache, by --cache-type-k/v (ggml.c: block sizes with their scales).
_BITS: Final = {
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q5_1": 6, "q5_0": 5.5, "q4_1": 5, "q4_0": 4.5, "iq4_nl": 4.5,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Estimated memory of a server in bytes, without compute buffers (some hundred MiB).

    Attributes:
        weights: The model's tensors, including all parts of a split model.
        kv_cache: The KV cache for the whole context. Models with sliding-window or recurrent layers need less.
        projector: The multimodal projector.
        context: Tokens in the cache: `ctx_size`, else the trained context.
    """

    weights: int
    kv_cache: int
    projector: int
    context: int

    @property
    def total(self) -> int:
        """The sum, in bytes."""
        return self.weights + self.kv_cache + self.projector

    def __str__(self) -> str:
        parts = f"weights {_size_text(self.weights)}, KV cache {_size_text(self.kv_cache)} for {self.context} tokens"
        projector = f", projector {_size_text(self.projector)}" if self.projector else ""
        return f"{_size_text(self.total)} ({parts}{projector})"


def estimate_memory(model: FilePath, options: Mapping[str, Any] | None = None) -> MemoryEstimate:
    """Estimate the memory of a server from the model's header, without loading it.

    Args:
        model: GGUF file, the first part of a split model.
        options: Options of `LocalServer`; `ctx_size`, `cache_type_k`, `cache_type_v` and `mmproj` are used.

    Raises:
        LocalServerError: If the file can't be read or is not a GGUF file.
    """
    given, path = options or {}, Path(model)
    meta = read_metadata(path)
    family = str(meta.get("general.architecture", ""))

    def number(name: str, default: float) -> Any:
        return meta.get(f"{family}.{name}", default)

    context = int(given.get("ctx_size") or number("context_length", 0))
    layers, heads = int(number("block_count", 0)), number("attention.head_count", 0)
    kv_heads = number("attention.head_count_kv", heads)
    # Some models have another number of heads in each layer.
    per_layer = kv_heads if isinstance(kv_heads, list) else [kv_heads] * layers
    most = max(heads) if isinstance(heads, list) else heads
    size = int(number("embedding_length", 0)) // int(most or 1)
    keys, values = int(number("attention.key_length", size)), int(number("attention.value_length", size))
    bits = keys * _bits(given.get("cache_type_k")) + values * _bits(given.get("cache_type_v"))
    is_encoder = number("attention.causal", True) is False
    kv_cache = 0 if is_encoder else int(context * sum(per_layer) * bits / 8)
    projector = given.get("mmproj")
    return MemoryEstimate(
        weights=sum(part.stat().st_size for part in _split_files(path)),
        kv_cache=kv_cache,
        projector=os.path.getsize(projector) if projector else 0,
        context=context,
    )


def _bits(kind: str | None) -> float:
    return _BITS.get(kind or "f16", 16)


def _split_files(path: Path) -> list[Path]:
    """All files of a split model."""
    found = re.fullmatch(r"(.*)-00001-of-(\d{5})(\.gguf)", path.name)
    return sorted(path.parent.glob(f"{found[1]}-*-of-{found[2]}{found[3]}")) if found else [path]


def _size_text(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
