"""A copy of a GGUF file that llama-server serves as a decision model, and still as a chat model.

Two keys in the file's metadata make the difference (b11434 and b11549; overrides on the command line do not do it):
`<arch>.decision.type` and the chat template `systemone`. The weights are copied as they are.

The template gets no `messages`, so ours writes the question as the one message of a conversation and goes on with the
model's own chat template. Block tags swallow the line's end behind them: line ends are written as escapes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import IO, Any, Final

from .._notices import logger
from .files import LocalServerError
from .gguf import MAGIC, TEXT, ArrayAt, Head, read_head, read_metadata, read_text_at

__all__ = ["decision_template", "kept_decisions_copy", "write_decisions_copy"]

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
    if target.exists() and target.samefile(source):
        raise LocalServerError("the copy can't replace the model itself", remedy="choose another name")
    if target.exists() and not overwrite:
        raise _exists(target)
    with source.open("rb") as file:
        head = read_head(file, source)
        added = _additions(file, head, source.name)
        try:
            with _finished_as(target, source, overwrite=overwrite) as out:
                _write(file, out, head, added)
        except OSError as error:
            raise LocalServerError(f"can't write {target}: {error.strerror or error}") from error
    return target


def kept_decisions_copy(model: Path) -> Path:
    """The decisions copy of a model in the cache directory, written if it is not there; the model if it needs none.

    A copy belongs to one state of a file: when the file changes, the next call replaces its copy.

    Raises:
        LocalServerError: As `write_decisions_copy`.
    """
    if not model.is_file():
        raise LocalServerError(f"model not found: {model}", remedy="check the path")
    if _is_decision_model(read_metadata(model)):
        return model
    status = model.stat()
    family = f"{model.stem}-{_digest(str(model.resolve()))}"
    state = _digest(f"{status.st_size} {status.st_mtime_ns} {_QUESTION}")
    directory = _cache_directory()
    copy = directory / f"{family}-{state}.gguf"
    if copy.is_file():
        return copy
    logger.info("writing a decisions copy of %s to %s", model, copy)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_decisions_copy(model, copy, overwrite=True)
    except OSError as error:
        raise LocalServerError(f"can't write {copy}: {error.strerror or error}") from error
    for old in directory.glob(f"{escape(family)}-*.gguf"):
        if old != copy:
            old.unlink(missing_ok=True)  # a server that has it open keeps it until its end
    return copy


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llamacpp-server" / "decisions"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _exists(target: Path) -> LocalServerError:
    return LocalServerError(f"{target.name} already exists", remedy="pass overwrite=True (--overwrite) to replace it")


@contextmanager
def _finished_as(target: Path, source: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """A new file that becomes `target` at the end of the block, in one step; it is gone when the block fails."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as out:
        unfinished = Path(out.name)
        try:
            yield out
            out.flush()
            os.fsync(out.fileno())
            shutil.copymode(source, unfinished)
            _put(unfinished, target, overwrite=overwrite)
        finally:
            unfinished.unlink(missing_ok=True)


def _put(unfinished: Path, target: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(unfinished, target)  # fails where a file appeared meanwhile, which a rename would replace
        except FileExistsError:
            raise _exists(target) from None
        except OSError:
            pass  # a file system without links
        else:
            return
    unfinished.replace(target)


def decision_template(values: Mapping[str, Any], bos: str, eos: str) -> str:
    """The template `systemone` for a model with this metadata and these special tokens."""
    template = str(values[_TEMPLATE_KEY])
    variables = "".join(f"{{%- set {name}_token = {_quoted(text)} -%}}" for name, text in (("bos", bos), ("eos", eos)))
    # The server adds no special token to a decision's prompt.
    adds_bos = values.get("tokenizer.ggml.add_bos_token") and "bos_token" not in template
    return f"{_QUESTION}{variables}{f'{{{{ {_quoted(bos)} }}}}' if adds_bos else ''}{template}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _is_decision_model(values: Mapping[str, Any]) -> bool:
    return f"{values.get('general.architecture')}.decision.type" in values or f"{_TEMPLATE_KEY}.systemone" in values


def _additions(file: IO[bytes], head: Head, name: str) -> bytes:
    """The two keys, as they stand in a file."""
    values = head.values
    architecture = values.get("general.architecture")
    if int(values.get("split.count") or 0) > 1:
        raise LocalServerError(
            f"{name} is one part of a split model", remedy="join them first: llama-gguf-split --merge"
        )
    if _is_decision_model(values):
        raise LocalServerError(f"{name} is already a decision model")
    if not architecture or _TEMPLATE_KEY not in values:
        raise LocalServerError(f"{name} has no chat template", remedy="decisions require a chat model")
    template = decision_template(values, *(_special_token(file, values, kind) for kind in ("bos", "eos")))
    pairs = {f"{architecture}.decision.type": "openjev", f"{_TEMPLATE_KEY}.systemone": template}
    return b"".join(_text(key) + struct.pack("<I", TEXT) + _text(value) for key, value in pairs.items())


def _special_token(file: IO[bytes], values: Mapping[str, Any], kind: str) -> str:
    tokens, index = values.get("tokenizer.ggml.tokens"), values.get(f"tokenizer.ggml.{kind}_token_id")
    return read_text_at(file, tokens, index) if isinstance(tokens, ArrayAt) and isinstance(index, int) else ""


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _write(file: IO[bytes], out: IO[bytes], head: Head, added: bytes) -> None:
    out.write(MAGIC + struct.pack("<IQQ", head.version, head.tensors, len(head.values) + 2))
    file.seek(head.keys_at)
    out.write(file.read(head.keys_end - head.keys_at) + added + file.read(head.infos_end - head.keys_end))
    out.write(b"\0" * (-out.tell() % head.alignment))
    file.seek(head.data_at)
    while piece := file.read(_PIECE):
        out.write(piece)
