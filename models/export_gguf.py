"""Write trained weights as GGUF files that llama.cpp loads."""

from pathlib import Path
from typing import Any

import chat_model
import gguf
import numpy as np
import torch
from chat_tokenizer import MARKERS, SPECIAL, Tokenizer


def write_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """The vocabulary: bytes, control tokens, the markers that stay visible in the output, merges."""
    normal, control, visible = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
    kinds = dict.fromkeys(SPECIAL, control) | dict.fromkeys(MARKERS, visible)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.texts)
    writer.add_token_types([int(kinds.get(text, normal)) for text in tokenizer.texts])
    writer.add_token_merges([f"{left} {right}" for left, right in tokenizer.merges])
    writer.add_pad_token_id(tokenizer.ids["<|endoftext|>"])


def write_tensors(writer: gguf.GGUFWriter, tensors: dict[str, Any]) -> None:
    """Matrices as f16, the rest as f32."""
    for name, tensor in tensors.items():
        array = tensor.detach().float().numpy()
        writer.add_tensor(name, np.ascontiguousarray(array.astype(np.float16 if array.ndim > 1 else np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _chat_parameters(model: "chat_model.Llama") -> dict[str, Any]:
    """The model's parameters by their names in the file."""
    tensors = {"token_embd.weight": model.embeddings, "output_norm.weight": model.norm.weight}
    for n, block in enumerate(model.blocks):
        parts = {
            "attn_norm": block.attn_norm,
            "attn_q": block.q,
            "attn_k": block.k,
            "attn_v": block.v,
            "attn_output": block.out,
            "ffn_norm": block.ffn_norm,
            "ffn_gate": block.gate,
            "ffn_up": block.up,
            "ffn_down": block.down,
        }
        tensors |= {f"blk.{n}.{name}.weight": part.weight for name, part in parts.items()}
    return tensors


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a written file."""
    field = gguf.GGUFReader(path).fields["tokenizer.ggml.merges"]
    merges = [bytes(field.parts[n]).decode().split(" ") for n in field.data]
    return Tokenizer([(left, right) for left, right in merges])


def load_chat(path: Path, model: "chat_model.Llama") -> None:
    """Take the weights of a written file, to train on from there."""
    written = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    for name, parameter in _chat_parameters(model).items():
        parameter.data.copy_(torch.from_numpy(written[name].astype(np.float32).reshape(parameter.shape)))


def export_chat(path: Path, model: "chat_model.Llama", tokenizer: Tokenizer, template: str) -> None:
    """The chat model with its template."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-chat")
    writer.add_license("mit")
    writer.add_context_length(chat_model.CONTEXT)
    writer.add_embedding_length(chat_model.WIDTH)
    writer.add_block_count(chat_model.LAYERS)
    writer.add_feed_forward_length(chat_model.HIDDEN)
    writer.add_head_count(chat_model.HEADS)
    writer.add_head_count_kv(chat_model.KV_HEADS)
    writer.add_key_length(chat_model.HEAD)
    writer.add_value_length(chat_model.HEAD)
    writer.add_rope_dimension_count(chat_model.HEAD)
    writer.add_rope_freq_base(chat_model.ROPE_BASE)
    writer.add_layer_norm_rms_eps(chat_model.NORM_EPSILON)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    write_tokenizer(writer, tokenizer)
    writer.add_bos_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_eos_token_id(tokenizer.ids["<|im_end|>"])
    writer.add_eot_token_id(tokenizer.ids["<|im_end|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    write_tensors(writer, _chat_parameters(model))
