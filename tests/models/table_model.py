"""A model whose probabilities are a table: after this character, that character with this probability."""

from collections.abc import Mapping
from math import log
from pathlib import Path

import gguf
import numpy as np

from llamacpp_server.testing import BYTES, END_OF_TURN, PLAIN_TEMPLATE, chat_vocabulary, write_file, write_tokenizer

_HEAD = 64
_NEVER = -60.0


def build_table(path: Path, table: Mapping[str, Mapping[str, float]], *, template: str = PLAIN_TEMPLATE) -> Path:
    """Write a model that knows one character back.

    Args:
        path: Where to write it.
        table: For a character, the probabilities of the next ones; what is missing has none. `""` as a next one is the
            end of the turn. The template's prompts end in a line's end, so the first of an answer is `table["\\n"]`.
        template: Its chat template.
    """
    vocabulary = chat_vocabulary()
    size = len(vocabulary)
    width = (size + 31) // 32 * 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("table")
    writer.add_context_length(8192)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_key_length(_HEAD)
    writer.add_value_length(_HEAD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    write_tokenizer(writer, vocabulary)
    writer.add_eos_token_id(vocabulary.id(END_OF_TURN))
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)

    def token(text: str) -> int:
        return vocabulary.id(BYTES[ord(text)]) if text else vocabulary.id(END_OF_TURN)

    # The norm before the output makes the root of the width of a one-hot's 1.
    output = np.zeros((size, width), np.float32)
    for before, shares in table.items():
        output[:, token(before)] = _NEVER / np.sqrt(width)
        for after, share in shares.items():
            output[token(after), token(before)] = log(share) / np.sqrt(width)
    tensors = {
        "token_embd.weight": np.eye(size, width, dtype=np.float32),
        "output.weight": output,
        "output_norm.weight": np.ones(width, np.float32),
        "blk.0.attn_norm.weight": np.ones(width, np.float32),
        "blk.0.ffn_norm.weight": np.ones(width, np.float32),
    }
    shapes = {"attn_q": (_HEAD, width), "attn_k": (_HEAD, width), "attn_v": (_HEAD, width),
              "attn_output": (width, _HEAD), "ffn_gate": (32, width), "ffn_up": (32, width),
              "ffn_down": (width, 32)}  # fmt: skip
    tensors |= {f"blk.0.{name}.weight": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    write_file(writer, tensors)
    return path
