"""Replies of all endpoints except chat and completion, as frozen values.

Each class reads its own wire form (`from_wire`); what a build does not report stays empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

from pydantic_core import from_json

from ._values import fields, figure, flags, integer, objects, text, texts
from .replies import Usage

__all__ = [
    "Embeddings",
    "Fit",
    "Health",
    "LoraAdapter",
    "Metrics",
    "ModelCard",
    "PromptRead",
    "Ranking",
    "Rankings",
    "ServerProps",
    "SlotAction",
    "SlotPrompt",
    "SlotState",
    "StreamState",
    "Token",
]

_LONGEST_NAME: Final = 4096


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the server can answer.

    Attributes:
        ready: True once the model is loaded; busy and sleeping servers are ready.
        message: The server's status text, such as `ok` or `Loading model`.
    """

    ready: bool
    message: str

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the body of a 200 at `/health`; servers other than llama-server answer `OK` or nothing."""
        try:
            body = from_json(text)
        except ValueError:
            body = None
        return cls(ready=True, message=str((isinstance(body, dict) and body.get("status")) or "ok"))


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model that the server lists.

    Attributes:
        id: The name to request it by; without `--alias`, the file name passed to the server.
        aliases: Other names.
        status: Router mode: `unloaded`, `loading`, `loaded`, `sleeping`, `downloading`, `downloaded`, or
            `failed`. None for the one model of an ordinary server.
        exit_code: Exit code of a failed load.
        input_modalities: Such as `text`, `image`, `audio`; empty if the build does not report them.
        output_modalities: Such as `text`; `decisions` for a decision model, which may also chat (b11549).
        n_ctx: Context of a slot, in tokens; None if unknown (not loaded, old build).
        n_ctx_train: Context length that the model was trained with, in tokens.
        n_embd: Dimensions of its embeddings.
        n_vocab: Size of its vocabulary.
        n_params: Number of parameters.
        capabilities: Such as `completion` or `multimodal`; empty for a router's models.
        raw: The entry as the server sent it.
    """

    id: str
    aliases: tuple[str, ...] = ()
    status: str | None = None
    exit_code: int | None = None
    input_modalities: tuple[str, ...] = ()
    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_embd: int | None = None
    n_vocab: int | None = None
    n_params: int | None = None
    output_modalities: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry of `data`, of a router's list, or of the Ollama-style `models`."""
        name = str(entry.get("id") or entry.get("model") or entry.get("name") or "")
        if len(name) > _LONGEST_NAME:  # it would be sent with each request
            raise ValueError("the name of a model is longer than a path can be")
        meta, status, architecture = (fields(entry.get(name)) for name in ("meta", "status", "architecture"))
        return cls(
            id=name,
            aliases=texts(entry.get("aliases")),
            status="failed" if status.get("failed") else text(status.get("value")) or None,
            exit_code=integer(status.get("exit_code")),
            input_modalities=texts(architecture.get("input_modalities")),
            output_modalities=texts(architecture.get("output_modalities")),
            n_ctx=integer(meta.get("n_ctx")),
            # Of a router's model that is not loaded, the file's own figure stands alone (b11549).
            n_ctx_train=integer(meta.get("n_ctx_train")) or integer(entry.get("context_length")),
            n_embd=integer(meta.get("n_embd")),
            n_vocab=integer(meta.get("n_vocab")),
            n_params=integer(meta.get("n_params")),
            capabilities=texts(entry.get("capabilities")),
            raw=entry,
        )

    @classmethod
    def list_from_wire(cls, body: Any) -> list[Self]:
        """Read `{"data": [...]}`, `{"models": [...]}` or a bare array."""
        entries = body if isinstance(body, list) else body.get("data") or body.get("models") or []
        # The same models are in a second list, with what they can do.
        second = objects(body.get("models")) if isinstance(body, dict) else []
        able = {text(entry.get("name")): texts(entry.get("capabilities")) for entry in second}
        cards = [cls.from_wire(entry) for entry in entries]
        return [replace(card, capabilities=card.capabilities or able.get(card.id, ())) for card in cards]


@dataclass(frozen=True, slots=True)
class ServerProps:
    """Properties of the server and its model (`/props`).

    Attributes:
        n_ctx: Context of one slot, in tokens (`-c` divided by `-np`); None for a router.
        total_slots: Maximum concurrent requests; None for a router.
        model_alias: The server's name for the model.
        model_path: The model's file, as passed to the server.
        build_info: Such as `b11434-abc`.
        chat_template: The Jinja source.
        chat_template_caps: Capabilities of the template, such as `supports_tools`; empty on old builds.
        modalities: `vision`, `audio`, `video`; empty on old builds.
        is_router: Whether this server is a router: it has no model itself and forwards requests by model name.
        is_sleeping: Whether the model is unloaded for inactivity; the next request loads it.
        default_params: The server's default sampling parameters.
        raw: The response as the server sent it.
    """

    n_ctx: int | None = None
    total_slots: int | None = None
    model_alias: str = ""
    model_path: str = ""
    build_info: str = ""
    chat_template: str = ""
    chat_template_caps: Mapping[str, bool] = field(default_factory=dict)
    modalities: Mapping[str, bool] = field(default_factory=dict)
    is_router: bool = False
    is_sleeping: bool = False
    default_params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """Read the response of `GET /props`."""
        defaults = fields(body.get("default_generation_settings"))
        router = body.get("role") == "router"
        return cls(
            n_ctx=None if router else integer(defaults.get("n_ctx")),
            total_slots=None if router else integer(body.get("total_slots")),
            model_alias=text(body.get("model_alias")),
            model_path=text(body.get("model_path")),
            build_info=text(body.get("build_info")),
            chat_template=text(body.get("chat_template")),
            chat_template_caps=flags(body.get("chat_template_caps")),
            modalities=flags(body.get("modalities")),
            is_router=router,
            is_sleeping=bool(body.get("is_sleeping")),
            default_params=dict(fields(defaults.get("params"))),
            raw=body,
        )


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot of the server, which runs one request at a time.

    Attributes:
        id: Number of the slot.
        is_processing: Whether a request is running in it.
        n_ctx: Context of the slot, in tokens.
        id_task: ID of the current or last request; None before the first.
        n_decoded: Tokens that it has generated so far; None before the first.
        raw: The entry as the server sent it.
    """

    id: int
    is_processing: bool
    n_ctx: int | None = None
    id_task: int | None = None
    n_decoded: int | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry of `/slots`; builds before b4027 have `state` instead of `is_processing`."""
        next_token = entry.get("next_token")
        if isinstance(next_token, list):
            next_token = next_token[0] if next_token else None
        return cls(
            id=_number(entry["id"]),
            is_processing=bool(entry.get("is_processing", entry.get("state", 0))),
            n_ctx=integer(entry.get("n_ctx")),
            id_task=integer(entry.get("id_task")),
            n_decoded=integer(fields(next_token).get("n_decoded")),
            raw=entry,
        )


@dataclass(frozen=True, slots=True)
class SlotAction:
    """Result of saving, restoring or erasing a slot.

    Attributes:
        id_slot: Number of the slot.
        n_tokens: Tokens saved, restored or erased.
        n_bytes: Bytes written or read; 0 for erase.
        ms: Milliseconds it took; 0 for erase.
        raw: The response as the server sent it.
    """

    id_slot: int
    n_tokens: int
    n_bytes: int = 0
    ms: float = 0.0
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, body: Mapping[str, Any]) -> Self:
        """Read the response of any of the three actions."""
        timings = fields(body.get("timings"))
        return cls(
            id_slot=_number(body["id_slot"]),
            n_tokens=_number(body.get("n_saved", body.get("n_restored", body.get("n_erased", 0)))),
            n_bytes=integer(body.get("n_written", body.get("n_read"))) or 0,
            ms=figure(timings.get("save_ms", timings.get("restore_ms"))) or 0.0,
            raw=body,
        )


@dataclass(frozen=True, slots=True)
class PromptRead:
    """How a prompt was processed.

    Attributes:
        tokens: Tokens of the prompt.
        reused: Tokens that came from the cache.
        ms: Milliseconds spent processing the others.
    """

    tokens: int
    reused: int
    ms: float = 0.0

    @property
    def read(self) -> int:
        """Prompt tokens that were not in the cache. The last token of a prompt never comes from it."""
        return self.tokens - self.reused

    @classmethod
    def from_wire(cls, reply: Mapping[str, Any]) -> Self:
        """Read the usage and timings of a chat reply; `cache_n` is missing on older builds."""
        tokens, timings = _number(reply["usage"]["prompt_tokens"]), reply["timings"]
        return cls(tokens, tokens - _number(timings["prompt_n"]), figure(timings["prompt_ms"]) or 0.0)


@dataclass(frozen=True, slots=True)
class SlotPrompt:
    """A prompt in a slot that was saved or restored.

    Attributes:
        slot: The server's report about saving or restoring.
        prompt: How the prompt was processed before the slot was saved, or after it was restored.
    """

    slot: SlotAction
    prompt: PromptRead


@dataclass(frozen=True, slots=True)
class StreamState:
    """A resumable stream, which the server keeps while it runs and for five minutes afterwards (b11549).

    Attributes:
        conversation_id: The ID from the request; a router appends `::` and the model.
        is_done: Whether it has ended.
        total_bytes: Bytes generated so far; the server keeps the last 4 MiB.
        started_at: Unix time.
        completed_at: Unix time; 0 while it is running.
    """

    conversation_id: str
    is_done: bool
    total_bytes: int
    started_at: int
    completed_at: int

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry of `/v1/streams/lookup`."""
        return cls(
            str(entry["conversation_id"]),
            bool(entry["is_done"]),
            int(entry["total_bytes"]),
            int(entry.get("started_at") or 0),
            int(entry.get("completed_at") or 0),
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its text.

    Attributes:
        id: ID in the vocabulary.
        piece: Its bytes, possibly only a part of a character.
    """

    id: int
    piece: bytes

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry of `/tokenize` with pieces: text, or a list of byte values."""
        piece = entry["piece"]
        return cls(_number(entry["id"]), piece.encode() if isinstance(piece, str) else bytes(piece))


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a chat request fits in a slot; true if it does.

    Attributes:
        prompt_tokens: Tokens of the prompt, counted by the server.
        answer_tokens: Tokens reserved for the answer; at least one.
        available: Context of one slot, in tokens.
    """

    prompt_tokens: int
    answer_tokens: int
    available: int

    @property
    def needed(self) -> int:
        """Tokens of the prompt and the answer together."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def fits(self) -> bool:
        """Whether the prompt and the answer fit."""
        return self.needed <= self.available

    def __bool__(self) -> bool:
        return self.fits


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors in the order of the inputs.

    Attributes:
        vectors: One for each text; `embed_tokens` returns one for each token.
        model: The model's name as reported by the server; "" if it reported none.
        usage: Token counts; None if the server reported none.
        raw: The rest of the response, without the vectors; of the first batch if there were several.
    """

    vectors: list[list[float]]
    model: str = ""
    usage: Usage | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The relevance of one document to the query.

    Attributes:
        index: Position of the document in the request.
        score: Raw logit of the model's rank head: unbounded, higher is better.
        text: The document, if the request had `return_text` (the format of TEI); else "".
    """

    index: int
    score: float
    text: str = field(default="", repr=False)


class Rankings(list[Ranking]):
    """A list of rankings, best first, with the model's name and token counts.

    Attributes:
        model: The model's name as reported by the server; "" if it reported none.
        usage: Token counts; None if the server reported none.
        raw: The response as the server sent it.
    """

    def __init__(
        self, ranks: Iterable[Ranking] = (), model: str = "", usage: Usage | None = None, raw: Any = None
    ) -> None:
        super().__init__(ranks)
        self.model, self.usage, self.raw = model, usage, raw


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """A LoRA adapter loaded by the server.

    Attributes:
        id: Its position on the command line, from 0.
        path: Its file, as passed to the server.
        scale: Its strength in requests that set none.
        raw: The entry as the server sent it.
    """

    id: int
    path: str
    scale: float
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The file name without directories and `.gguf`."""
        return re.split(r"[/\\]", self.path)[-1].removesuffix(".gguf")

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry of `/lora-adapters`."""
        return cls(_number(entry["id"]), text(entry.get("path")), figure(entry.get("scale")) or 0.0, entry)


def _number(wire: object) -> int:
    """A whole number that nothing can stand for.

    Raises:
        TypeError: For anything else; the reply is not of this API then.
    """
    if (number := integer(wire)) is None:
        raise TypeError("a number is missing")
    return number


_METRIC = re.compile(r"^(?:llamacpp:)?([A-Za-z_:][\w:]*)(?:\{[^}]*\})? +(\S+)", re.MULTILINE)
_FLOAT = re.compile(r"[-+]?(?:\d{1,400}(?:\.\d{0,400})?(?:e[-+]?\d{1,4})?|inf|nan)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counters and gauges of the server (`/metrics`), named without the `llamacpp:` prefix.

    Attributes:
        values: The value of each metric, by name.
        started_at: When the server started, in microseconds of its machine's monotonic clock; None if not reported.
            Another value means that the server was restarted. The header is called `Process-Start-Time-Unix`, but holds
            no Unix time (seen in b11549: on Linux, microseconds since the machine started).
        text: The response as the server sent it, with types and descriptions of the metrics.
    """

    values: Mapping[str, float]
    started_at: float | None = None
    text: str = field(default="", repr=False, compare=False)

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    @classmethod
    def from_text(cls, text: str, headers: Mapping[str, str] = MappingProxyType({})) -> Self:
        """Read the Prometheus text format, and the server's start time from the response headers."""
        started = headers.get("process-start-time-unix") or ""
        return cls(
            {name: float(value) for name, value in _METRIC.findall(text) if _FLOAT.fullmatch(value)},
            float(started) if re.fullmatch(r"\d{1,15}(\.\d{1,9})?", started, re.ASCII) else None,
            text,
        )
