"""Scripted models: GGUF files that emit exactly the text of a test, for the server's own parsing and streaming.

How it works: embeddings are one-hot and the output matrix is a table of next tokens, so every token leads to one other
token. Each piece of a script is a token of its own. llama.cpp wants token texts to be distinct, and two pieces may well
read the same, so the second is spelled with overlong UTF-8, which llama.cpp reads as the same text.

The chat template decides which script is spoken: it looks at the last message and writes one invisible key token behind
the messages. The only attention head looks for that token, and the output matrix turns it into the first token of the
script. Text that the chat template did not write (`/completion`) gets the script "user".
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from .gguf_files import BYTES, CHAT_TEMPLATE, END_OF_TURN, chat_vocabulary, write_file, write_tokenizer

_HEAD = 64
_OPENING = "assistant\n"
_THINK_END = "</think>"


Says = str | Sequence[str | bytes]


@dataclass(frozen=True)
class Script:
    """One reply of a scripted model.

    A string is cut into words, each with the white space before it; a sequence is used as it is, one token and so one
    streamed chunk per piece. A piece of bytes may be a part of a character.

    Attributes:
        says: The reply's text; use `tool_call(...)` for tool calls.
        thinks: Reasoning before it, if the request enables reasoning.
        endless: Repeat the last piece and never stop.
        ponders: Repeat the last piece of `thinks` until the server ends the reasoning.
        looks_back: With one endless piece: look for the script's key in the context before each piece, so that a model
            whose context is exchanged while it speaks continues with the other script.
    """

    says: Says
    thinks: Says = ()
    endless: bool = False
    ponders: bool = False
    looks_back: bool = False


def tool_call(name: str, arguments: str | Mapping[str, Any]) -> str:
    """Write the text that the server parses into a tool call.

    Args:
        name: Name of the tool.
        arguments: A mapping, or JSON text, which is written unchanged and may be malformed.
    """
    arguments = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def pieces(text: Says) -> list[bytes]:
    """The tokens of a script's text."""
    parts = re.findall(r"\s*\S+|\s+$", text) if isinstance(text, str) else text
    return [part.encode() if isinstance(part, str) else part for part in parts]


def build_scripted(
    path: Path,
    script: Says | Script | Mapping[str, Says | Script],
    *,
    context_length: int = 8192,
) -> Path:
    """Write a model that emits `script` token by token, at any temperature.

    Args:
        path: The file to write.
        script: One script for every prompt, or several by key, of which the first match is used:

            - any key that occurs in the text of the last message (`"weather"`), in the order of the mapping;
            - `"tool"` if the last message is a tool's result;
            - `"user"` in every other case (required, if several are given).

            A text, or a list of pieces, is short for `Script(says=...)`. A request can choose script number N itself
            with `chat_template_kwargs={"script": N}`.
        context_length: The trained context length in the model's metadata, in tokens.

    Returns:
        `path`.

    Raises:
        ValueError: For several scripts without the key `"user"`, more than 64, or an empty piece.

    A script of N tokens makes a file of about 4·N² bytes. A grammar of the request still applies: if it forbids the
    next piece, the model continues with another token.
    """
    scripts = dict(script) if isinstance(script, Mapping) else {"user": script}
    if "user" not in scripts:
        raise ValueError("several scripts need one with the key 'user', for prompts that match no other key")
    if len(scripts) > _HEAD:
        raise ValueError(f"a model has room for at most {_HEAD} scripts")
    return NextTokens({key: s if isinstance(s, Script) else Script(s) for key, s in scripts.items()}).write(
        path, context_length
    )


class NextTokens:
    """The vocabulary and the next-token table of a set of scripts."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.scripts = scripts
        self.vocabulary = chat_vocabulary()
        self.opening = self.vocabulary.add(_OPENING, gguf.TokenType.USER_DEFINED)
        # The server counts thinking, and ends it, by the tokens of the tags: they must be those of the vocabulary. What
        # comes after "<think>" is a line's end, which no script holds as a token of its own.
        self.opening_thinking = self.vocabulary.id(BYTES[ord("\n")])
        self.think_end = self.vocabulary.id(_THINK_END)
        self.keys = [self.vocabulary.add(f"<|script {n}|>", gguf.TokenType.CONTROL) for n in range(len(scripts))]
        self.taken: set[bytes] = {text.encode() for text in self.vocabulary.texts if isinstance(text, str)}
        self.spellings: dict[bytes, Iterator[bytes]] = {}
        self.next: dict[int, int] = {}
        self.first: list[int] = []
        self.first_thinking: list[int] = []
        self.lookouts: list[int] = []
        end = self.vocabulary.id(END_OF_TURN)
        for one in scripts.values():
            thinks, says = pieces(one.thinks), pieces(one.says)
            said = [*self._chain(says), end]
            if one.endless and len(said) > 1:
                self.next[said[-2]] = said[-2]
            if one.looks_back:
                del self.next[said[-2]]  # what follows a token that is in no chain is the key's choice
                self.lookouts.append(said[-2])
            if thinks and not one.ponders:
                thinks[-1] += b"\n"
            thought = [*(self._chain(thinks) if thinks else []), self.think_end]
            self.next |= dict(itertools.pairwise(thought))
            if one.ponders:
                self.next[thought[-2]] = thought[-2]
            self.first.append(said[0])
            self.first_thinking.append(thought[0])

    def _chain(self, parts: Sequence[bytes]) -> list[int]:
        ids = [self._token(part) for part in parts]
        self.next |= dict(itertools.pairwise(ids))
        self.next[ids[-1]] = self.vocabulary.id(END_OF_TURN) if ids else 0
        return ids

    def _token(self, piece: bytes) -> int:
        if not piece:
            raise ValueError("a piece of a script is empty")
        untried = self.spellings.setdefault(piece, _spellings(piece))
        spelling = next((s for s in untried if s not in self.taken), None)
        if spelling is None:
            raise ValueError(f"the piece {piece!r} occurs too often; make it longer or use `endless`")
        self.taken.add(spelling)
        return self.vocabulary.add(spelling, gguf.TokenType.NORMAL)

    def write(self, path: Path, context_length: int) -> Path:
        """Write the model."""
        size = len(self.vocabulary)
        width = (size + len(self.keys) + 31) // 32 * 32
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_name("scripted")
        writer.add_context_length(context_length)
        writer.add_embedding_length(width)
        writer.add_block_count(1)
        writer.add_feed_forward_length(32)
        writer.add_head_count(1)
        writer.add_key_length(_HEAD)
        writer.add_value_length(_HEAD)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(_HEAD)
        # So large a base leaves the last pair of dimensions unrotated: the head finds its key at any distance.
        writer.add_rope_freq_base(1e30)
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        write_tokenizer(writer, self.vocabulary)
        writer.add_eos_token_id(self.vocabulary.id(END_OF_TURN))
        writer.add_add_bos_token(False)
        writer.add_chat_template(self.template())
        write_file(writer, self._tensors(width))
        return path

    def template(self) -> str:
        """The chat template, with the key of the script behind the last message."""
        chosen = "{%- if script is defined -%}{{ '<|script ' ~ script ~ '|>' }}{%- else -%}"
        choice = ["{%- set last = messages[-1] if messages else {'role': 'user', 'content': ''} -%}"]
        names = list(self.scripts)
        tests = [f"'{_escaped(name)}' in text(last.content)" for name in names if name not in ("user", "tool")]
        keys = [n for n, name in enumerate(names) if name not in ("user", "tool")]
        if "tool" in names:
            tests.append("last.role == 'tool'")
            keys.append(names.index("tool"))
        for n, (test, key) in enumerate(zip(tests, keys, strict=True)):
            choice.append(f"{{%- {'elif' if n else 'if'} {test} -%}}{{{{ '<|script {key}|>' }}}}")
        default = f"{{{{ '<|script {names.index('user')}|>' }}}}"
        choice.append(f"{{%- else -%}}{default}{{%- endif -%}}" if tests else default)
        before, generation, after = CHAT_TEMPLATE.rpartition("{%- if add_generation_prompt -%}")
        return before + chosen + "".join(choice) + "{%- endif -%}" + generation + after

    def _tensors(self, width: int) -> dict[str, npt.NDArray[Any]]:
        size = len(self.vocabulary)
        embeddings = np.eye(size, width, dtype=np.float32)
        query, key, value = (np.zeros((_HEAD, width), np.float32) for _ in range(3))
        copy = np.zeros((width, _HEAD), np.float32)
        output = np.zeros((size, width), np.float32)
        query[_HEAD - 2, :] = 10.0
        for n, token in enumerate(self.keys):
            key[_HEAD - 2, token] = 10.0
            value[n, token] = 1 / np.sqrt(width)  # the norm before the head multiplies a one-hot by this root
            copy[size + n, n] = 1.0
            output[self.first[n], size + n] = output[self.first_thinking[n], size + n] = 50.0
        start = list(self.scripts).index("user")
        # What follows a token of a chain outweighs the key; what follows any other token is the key's choice.
        output[self.first[start], :size] = 5.0
        for token, following in self.next.items():
            output[:, token] = 0.0
            output[following, token] = 500.0
        output[:, self.opening_thinking] = 0.0
        for first in self.first_thinking:
            output[first, self.opening_thinking] = 20.0
        for first, opening in itertools.product(self.first, [self.opening, self.think_end, *self.lookouts]):
            output[first, opening] = max(output[first, opening], 20.0)
        zeros = np.zeros((32, width), np.float32)
        return {
            "token_embd.weight": embeddings.astype(np.float16),
            "output.weight": output.astype(np.float16),
            "output_norm.weight": np.ones(width, np.float32),
            "blk.0.attn_norm.weight": np.ones(width, np.float32),
            "blk.0.attn_q.weight": query,
            "blk.0.attn_k.weight": key,
            "blk.0.attn_v.weight": value,
            "blk.0.attn_output.weight": copy,
            "blk.0.ffn_norm.weight": np.ones(width, np.float32),
            "blk.0.ffn_gate.weight": zeros,
            "blk.0.ffn_up.weight": zeros,
            "blk.0.ffn_down.weight": np.zeros((width, 32), np.float32),
        }


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _spellings(piece: bytes) -> Iterator[bytes]:
    """Byte strings that llama.cpp decodes to `piece`: the plain one, then those with overlong UTF-8."""
    return (b"".join(parts) for parts in itertools.product(*(_encodings(ord(BYTES[byte])) for byte in piece)))


def _encodings(code: int) -> list[bytes]:
    """One character in all the lengths that a decoder which does not insist on the shortest form reads."""
    two = bytes([0xC0 | code >> 6, 0x80 | code & 0x3F])
    three = bytes([0xE0, 0x80 | code >> 6, 0x80 | code & 0x3F])
    four = bytes([0xF0, 0x80, 0x80 | code >> 6, 0x80 | code & 0x3F])
    return [chr(code).encode(), three, four] if code > 0x7F else [bytes([code]), two, three, four]
