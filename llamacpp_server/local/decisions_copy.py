"""A copy of a GGUF file that llama-server serves as a decision model, and still as a chat model.

Two keys in the file's metadata make the difference (b11434 and b11549; overrides on the command line do not do it):
`<arch>.decision.type` and the chat template `systemone`. The weights are copied as they are.

The template gets no `messages`, so ours writes the question as the one message of a conversation and goes on with the
model's own chat template. Block tags swallow the line's end behind them: line ends are written as escapes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from .files import LocalServerError

__all__ = ["decision_template", "write_decisions_copy"]

_MAGIC: Final = b"GGUF"
_SIZES: Final = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9
_PIECE: Final = 16 * 1024 * 1024
_TEMPLATE_KEY: Final = "tokenizer.chat_template"

_QUESTION: Final = r"""
{%- macro as_text(value) -%}{{ value if value is string else value | tojson }}{%- endmacro -%}
{%- set letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz' -%}
{%- set asked = namespace(text='') -%}
{%- if images is defined -%}{%- for image in images -%}
{%- set asked.text = asked.text ~ image ~ '\n' -%}
{%- endfor -%}{%- endif -%}
{%- set asked.text = asked.text ~ as_text(state) ~ '\n\nQuestion about the above: ' ~ as_text(instructions) -%}
{%- set asked.text = asked.text ~ ('\nLevels:' if type == 'score' else '\nOptions:') -%}
{%- for option in options -%}
{%- set name = '' if type == 'score' else as_text(option.key) -%}
{%- if type == 'noul' -%}{%- set name = 'yes' if loop.first else 'no' -%}{%- endif -%}
{%- set about = as_text(option.description) if option.description else '' -%}
{%- set asked.text = asked.text ~ '\n' ~ letters[loop.index0] ~ ': ' ~ name -%}
{%- set asked.text = asked.text ~ (' - ' if name and about else '') ~ about -%}
{%- endfor -%}
{%- set asked.text = asked.text ~ '\nAnswer with the letter of one of them, and nothing else.' -%}
{%- set messages = [{'role': 'user', 'content': asked.text}] -%}
{%- set add_generation_prompt = true -%}
{%- set enable_thinking = false -%}
""".replace("\n", "")


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands before the weights of a GGUF file."""

    version: int
    tensors: int
    values: Mapping[str, Any]
    keys: bytes
    infos: bytes
    data_at: int
    alignment: int


def write_decisions_copy(
    model: str | os.PathLike[str], copy: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a copy of a chat model that llama-server also serves as a decision model.

    Args:
        model: The GGUF file, with a chat template.
        copy: Where to write the copy; as large as the model.
        overwrite: Replace a file that is there.

    Returns:
        The path of the copy.

    Raises:
        LocalServerError: When the file is missing or no GGUF file, is one part of several, has no chat template, or is
            a decision model already, or when the copy exists.
    """
    source, target = Path(model), Path(copy)
    if not source.is_file():
        raise LocalServerError(f"{source} is not a file", remedy="check the path of the GGUF file")
    if target.exists() and not overwrite:
        raise LocalServerError(
            f"{target.name} already exists", remedy="pass overwrite=True (--overwrite) to replace it"
        )
    if target.exists() and target.samefile(source):
        raise LocalServerError("the copy can't replace the model itself", remedy="choose another name")
    with source.open("rb") as file:
        head = _read_head(file, source.name)
        added = _additions(head, source.name)
        unfinished = target.with_name(target.name + ".part")
        try:
            with unfinished.open("wb") as out:
                _write(file, out, head, added)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    return target


def decision_template(values: Mapping[str, Any]) -> str:
    """The template `systemone` for a model with this metadata."""
    tokens, before, variables = values.get("tokenizer.ggml.tokens", {}), "", ""
    template = str(values[_TEMPLATE_KEY])
    for name in ("bos", "eos"):
        text = tokens.get(values.get(f"tokenizer.ggml.{name}_token_id"), "")
        variables += f"{{%- set {name}_token = {_quoted(text)} -%}}"
        # The server adds no special token to a decision's prompt.
        if name == "bos" and values.get("tokenizer.ggml.add_bos_token") and "bos_token" not in template:
            before = f"{{{{ {_quoted(text)} }}}}"
    return f"{_QUESTION}{variables}{before}{template}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _additions(head: _Head, name: str) -> bytes:
    architecture = head.values.get("general.architecture")
    if int(head.values.get("split.count") or 0) > 1:
        raise LocalServerError(
            f"{name} is one part of a split model", remedy="join them first: llama-gguf-split --merge"
        )
    if f"{architecture}.decision.type" in head.values or f"{_TEMPLATE_KEY}.systemone" in head.values:
        raise LocalServerError(f"{name} is already a decision model")
    if not architecture or _TEMPLATE_KEY not in head.values:
        raise LocalServerError(f"{name} has no chat template", remedy="decisions require a chat model")
    pairs = {f"{architecture}.decision.type": "openjev", f"{_TEMPLATE_KEY}.systemone": decision_template(head.values)}
    return b"".join(_text(key) + struct.pack("<I", _TEXT) + _text(value) for key, value in pairs.items())


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _write(file: IO[bytes], out: IO[bytes], head: _Head, added: bytes) -> None:
    count = len(head.values) + 2
    out.write(_MAGIC + struct.pack("<IQQ", head.version, head.tensors, count) + head.keys + added + head.infos)
    out.write(b"\0" * (-out.tell() % head.alignment))
    file.seek(head.data_at)
    while piece := file.read(_PIECE):
        out.write(piece)


def _read_head(file: IO[bytes], name: str) -> _Head:
    try:
        magic, version, tensors, count = struct.unpack("<4sIQQ", file.read(24))
        if magic != _MAGIC or version not in (2, 3):
            raise ValueError(magic)
        start, values = file.tell(), {}
        for _ in range(count):
            key = _read_text(file)
            values[key] = _read_value(file, _number(file, 4))
        keys_end = file.tell()
        for _ in range(tensors):
            _read_text(file)
            file.seek(8 * _number(file, 4) + 4 + 8, os.SEEK_CUR)
        infos_end = file.tell()
        file.seek(start)
        keys, infos = file.read(keys_end - start), file.read(infos_end - keys_end)
    except (struct.error, ValueError, KeyError, EOFError) as error:
        raise LocalServerError(f"{name} is not a valid GGUF file: {error}") from None
    alignment = int(values.get("general.alignment") or 32)
    return _Head(version, tensors, values, keys, infos, infos_end + -infos_end % alignment, alignment)


def _read_value(file: IO[bytes], kind: int) -> Any:
    if kind == _TEXT:
        return _read_text(file)
    if kind != _LIST:
        return _number(file, kind)
    inner, length = _number(file, 4), _number(file, 10)
    if inner == _TEXT:
        return {at: _read_text(file) for at in range(length)}
    if inner == _LIST:
        return [_read_value(file, inner) for _ in range(length)]
    file.seek(length * struct.calcsize(_SIZES[inner]), os.SEEK_CUR)
    return None


def _read_text(file: IO[bytes]) -> str:
    length = _number(file, 10)
    data = file.read(length)
    if len(data) < length:
        raise EOFError("unexpected end of file")
    return data.decode("utf-8", "surrogateescape")


def _number(file: IO[bytes], kind: int) -> Any:
    form = "<" + _SIZES[kind]
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
