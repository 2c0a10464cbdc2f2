"""Models with random weights: they load, tokenize, embed and speak nonsense; all that the server does is real."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from llamacpp_server.testing import (
    CHAT_TEMPLATE,
    END_OF_TURN,
    FIM,
    Vocabulary,
    chat_vocabulary,
    write_file,
    write_tokenizer,
)

_HEAD = 32


def build_random(
    path: Path,
    *,
    embedding_length: int = 64,
    layers: int = 2,
    context_length: int = 4096,
    chat_template: str | None = None,
    fim_tokens: bool = False,
    control_tokens: Sequence[str] = (),
    seed: int = 0,
) -> Path:
    """Write a random Llama, about 0.5 MB.

    Args:
        path: Where to write it.
        embedding_length: Width of the model, a multiple of 32.
        layers: Number of blocks.
        context_length: The context that the model claims to be trained for.
        chat_template: Another template than the one with tools and thinking (see `PLAIN_TEMPLATE`).
        fim_tokens: Add the fill-in-the-middle tokens that `/infill` needs.
        control_tokens: More tokens that are parsed specially, such as those of another family's template.
        seed: Another seed speaks other nonsense.
    """
    rng = np.random.default_rng(seed)
    width, hidden = embedding_length, 2 * embedding_length
    vocabulary = chat_vocabulary()
    if fim_tokens:
        vocabulary.add_all(FIM, gguf.TokenType.CONTROL)
    known = {*vocabulary.texts}
    vocabulary.add_all([text for text in control_tokens if text not in known], gguf.TokenType.CONTROL)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_context_length(context_length)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(width // _HEAD)
    writer.add_head_count_kv(width // _HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    write_tokenizer(writer, vocabulary)
    writer.add_eos_token_id(vocabulary.id(END_OF_TURN))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE if chat_template is None else chat_template)
    if fim_tokens:
        for role, token in zip(("pre", "suf", "mid"), FIM, strict=True):
            writer.add_uint32(f"tokenizer.ggml.fim_{role}_token_id", vocabulary.id(token))

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(len(vocabulary), width) * np.float32(np.sqrt(width)),
        "output.weight": matrix(len(vocabulary), width),
        "output_norm.weight": np.ones(width, np.float32),
    }
    for block in range(layers):
        tensors |= {
            f"blk.{block}.attn_norm.weight": np.ones(width, np.float32),
            f"blk.{block}.attn_q.weight": matrix(width, width),
            f"blk.{block}.attn_k.weight": matrix(width, width),
            f"blk.{block}.attn_v.weight": matrix(width, width),
            f"blk.{block}.attn_output.weight": matrix(width, width),
            f"blk.{block}.ffn_norm.weight": np.ones(width, np.float32),
            f"blk.{block}.ffn_gate.weight": matrix(hidden, width),
            f"blk.{block}.ffn_up.weight": matrix(hidden, width),
            f"blk.{block}.ffn_down.weight": matrix(width, hidden),
        }
    write_file(writer, tensors)
    return path


def build_lora(path: Path, *, embedding_length: int = 64, layers: int = 2, seed: int = 1) -> Path:
    """Write a LoRA adapter of rank 2 for `build_random`'s model, strong enough to change what it says."""
    rng = np.random.default_rng(seed)
    width, rank = embedding_length, 2
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(rank))
    tensors = {}
    for block in range(layers):
        name = f"blk.{block}.ffn_down.weight"
        tensors[f"{name}.lora_a"] = rng.standard_normal((rank, 2 * width)).astype(np.float32)
        tensors[f"{name}.lora_b"] = rng.standard_normal((width, rank)).astype(np.float32)
    write_file(writer, tensors)
    return path


def build_random_encoder(
    path: Path, *, rank_head: bool = True, rank_template: str | None = None, seed: int = 0
) -> Path:
    """Write a random BERT of 64 dimensions that embeds (mean pooling), and reranks if it has the rank head."""
    rng = np.random.default_rng(seed)
    width, hidden, layers, context = 64, 128, 2, 512
    vocabulary = Vocabulary()
    vocabulary.add_all(["<|endoftext|>", "[CLS]", "[SEP]"], gguf.TokenType.CONTROL)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("random-encoder")
    write_encoder_metadata(writer, width=width, layers=layers, heads=2, hidden=hidden, context=context)
    write_tokenizer(writer, vocabulary)
    write_encoder_tokens(writer, vocabulary)
    if rank_template is not None:
        writer.add_string("tokenizer.chat_template.rerank", rank_template)

    def layer(name: str, rows: int, columns: int) -> dict[str, np.ndarray]:
        weight = (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)
        return {f"{name}.weight": weight, f"{name}.bias": np.zeros(rows, np.float32)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": np.ones(width, np.float32), f"{name}.bias": np.zeros(width, np.float32)}

    tensors = {
        "token_embd.weight": rng.standard_normal((len(vocabulary), width)).astype(np.float32),
        "token_types.weight": np.zeros((1, width), np.float32),
        "position_embd.weight": 0.1 * rng.standard_normal((context, width)).astype(np.float32),
    } | norm("token_embd_norm")
    for block in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors |= layer(f"blk.{block}.{name}", width, width)
        tensors |= norm(f"blk.{block}.attn_output_norm") | norm(f"blk.{block}.layer_output_norm")
        tensors |= layer(f"blk.{block}.ffn_up", hidden, width) | layer(f"blk.{block}.ffn_down", width, hidden)
    if rank_head:
        tensors |= layer("cls", width, width) | layer("cls.output", 1, width)
    write_file(writer, tensors)
    return path


def write_encoder_metadata(
    writer: gguf.GGUFWriter, *, width: int, layers: int, heads: int, hidden: int, context: int
) -> None:
    """The hyperparameters of a BERT that pools by the mean."""
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_token_type_count(1)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def write_encoder_tokens(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """[CLS] before and [SEP] after each text, and between the query and the document when reranking."""
    writer.add_eos_token_id(vocabulary.id("[SEP]"))
    writer.add_sep_token_id(vocabulary.id("[SEP]"))
    writer.add_uint32("tokenizer.ggml.cls_token_id", vocabulary.id("[CLS]"))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)
    writer.add_bool("tokenizer.ggml.add_sep_token", False)
