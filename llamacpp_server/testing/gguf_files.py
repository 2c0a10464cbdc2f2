"""Parts of every GGUF file made for tests: the byte alphabet of GPT-2, the vocabulary and the metadata."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text(encoding="utf-8")
"""ChatML with tools and thinking: the template of the trained model, which the server's parsers understand."""

PLAIN_TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
"""A template that knows no tools and no thinking: `chat_template_caps.supports_tools` is false."""

END_OF_TURN = "<|im_end|>"
CONTROL = ["<|endoftext|>", "<|im_start|>", END_OF_TURN]
MARKERS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
FIM = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]


def _byte_alphabet() -> list[str]:
    """The printable stand-in of each byte in a GPT-2 vocabulary."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


BYTES = _byte_alphabet()


SECOND_SPELLINGS = (0xC0, 0xC1, 0xE0, 0xF0, *range(0xF5, 0x100))
"""Tokens of bytes that begin a second spelling of a character: a random model makes some, a real text has none."""


def spelled(piece: bytes) -> str:
    """How a GPT-2 vocabulary writes the token that decodes to `piece`."""
    return "".join(BYTES[byte] for byte in piece)


@dataclass
class Vocabulary:
    """Token texts and types, in the order of their ids: the 256 bytes come first."""

    texts: list[str | bytes] = field(default_factory=lambda: list(BYTES))
    types: list[int] = field(default_factory=lambda: [int(gguf.TokenType.NORMAL)] * 256)

    def add(self, text: str | bytes, token_type: gguf.TokenType) -> int:
        """Append a token and return its id."""
        self.texts.append(text)
        self.types.append(int(token_type))
        return len(self.texts) - 1

    def add_all(self, texts: Sequence[str], token_type: gguf.TokenType) -> None:
        """Append several tokens of one type."""
        for text in texts:
            self.add(text, token_type)

    def id(self, text: str) -> int:
        """The id of a token by its text."""
        return self.texts.index(text)

    def __len__(self) -> int:
        return len(self.texts)


def chat_vocabulary() -> Vocabulary:
    """Every byte, so that any Unicode tokenizes, and the tokens that the chat templates write."""
    vocabulary = Vocabulary()
    vocabulary.add_all(CONTROL, gguf.TokenType.CONTROL)
    vocabulary.add_all(MARKERS, gguf.TokenType.USER_DEFINED)
    return vocabulary


def write_tokenizer(writer: gguf.GGUFWriter, vocabulary: Vocabulary) -> None:
    """A byte-level tokenizer. One merge is written because the server refuses a BPE vocabulary without merges."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([text.encode() if isinstance(text, str) else text for text in vocabulary.texts])
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges([f"{BYTES[0]} {BYTES[1]}"])
    writer.add_bos_token_id(vocabulary.id("<|endoftext|>"))
    writer.add_pad_token_id(vocabulary.id("<|endoftext|>"))


def write_file(writer: gguf.GGUFWriter, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Add the tensors, matrices as f32 unless given otherwise, and write the file."""
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
