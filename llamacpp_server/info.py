"""Capabilities of a server and its model, from `/props` and `/v1/models`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ._values import fields, texts
from .errors import NotSupportedError
from .wire import MessageDict

if TYPE_CHECKING:
    from .results import ModelCard, ServerProps
else:  # a cycle; hints resolve at runtime too
    ModelCard = ServerProps = Any

__all__ = ["Medium", "ServerInfo", "ThinkingSwitch", "media_of"]

Medium = Literal["image", "audio", "video"]
_PART_MEDIA: Final[dict[str, Medium]] = {"image_url": "image", "input_audio": "audio", "input_video": "video"}

_MEDIA_FLAGS: Final = {
    "image": "start the server with --mmproj and the projector made for this model",
    "audio": "start the server with --mmproj and an audio projector made for this model",
    "video": "start the server with --mmproj and the projector made for this model, and install ffmpeg on its host",
}

# How the text of a template names levels of reasoning, and what it does with a system message after the first turn:
# it writes the role of any message, or raises an error about the system's.
_GPT_OSS_EFFORTS: Final = ("low", "medium", "high")
_COMPARED: Final = re.compile(r"reasoning_effort\s*(?:==|!=|(?:not\s+)?in)\s*([\[(][^\])]*[\])]|'\w+'|\"\w+\")")
_QUOTED: Final = re.compile(r"['\"](\w+)['\"]")
_DEFAULT_EFFORT: Final = re.compile(
    r"set\s+reasoning_effort\s*=\s*['\"](\w+)['\"]|reasoning_effort\s*\|\s*default\(\s*['\"](\w+)['\"]"
)
_ANY_ROLE: Final = re.compile(r"message(?:\.role|\[['\"]role['\"]\])\s*(?:\||\+|~|-?\}\})")
_NO_LATE_SYSTEM: Final = re.compile(r"raise_exception\([^)]*system", re.IGNORECASE)

ThinkingSwitch = Literal["enable_thinking", "reasoning_effort", "always", "none"]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server and its model support. None means that the server does not report it (old build, model not loaded).

    Attributes:
        model: The model's name.
        build: Build of llama.cpp, such as `b11434-abc`; "" where unknown.
        n_ctx: Context of one slot, in tokens; a prompt and its answer must fit into it together.
        n_ctx_train: Context length that the model was trained with, in tokens.
        n_embd: Dimensions of its embeddings.
        total_slots: Maximum concurrent requests.
        vision: Whether the model accepts images.
        audio: Whether the model accepts audio.
        video: Whether the model accepts video.
        tools: Whether the chat template renders tools; if not, the server drops them silently.
        parallel_tool_calls: Whether the template supports several calls in one turn.
        thinking: How the template controls reasoning: the variable `enable_thinking` or `reasoning_effort`, `always`
            (reasoning can't be turned off), or `none`.
        efforts: Reasoning levels that the template names; empty if it has none.
        default_effort: The template's default reasoning level; None if unknown.
        late_system: Whether the template renders system messages after the first turn in place; False if its text does
            not show it.
        is_router: Whether the server is a router.
        is_sleeping: Whether the model is unloaded for inactivity; the next request loads it.
        status: Status of a router's model, as in `ModelCard`.
        pooling: Pooling type of embeddings: `none`, `mean`, `cls`, `last`, or `rank` for a reranker. Only a router
            reports it, for models whose command line sets it (b11434).
    """

    model: str | None = None
    build: str = ""
    n_ctx: int | None = None
    n_ctx_train: int | None = None
    n_embd: int | None = None
    total_slots: int | None = None
    vision: bool | None = None
    audio: bool | None = None
    video: bool | None = None
    tools: bool | None = None
    parallel_tool_calls: bool | None = None
    thinking: ThinkingSwitch | None = None
    efforts: tuple[str, ...] | None = None
    default_effort: str | None = None
    late_system: bool | None = None
    is_router: bool = False
    is_sleeping: bool = False
    status: str | None = None
    pooling: str | None = None

    def check_media(self, media: Iterable[Medium]) -> None:
        """Reject media that the model can't read, before anything is sent.

        Raises:
            NotSupportedError: For the first unsupported kind; `remedy` names the flag.
        """
        for medium in media:
            able = {"image": self.vision, "audio": self.audio, "video": self.video}[medium]
            if able is False:
                raise NotSupportedError(
                    f"the server ({self.model or 'its model'}) does not support {medium} input",
                    remedy=_MEDIA_FLAGS[medium],
                )

    @classmethod
    def build_from(cls, props: ServerProps | None, cards: Sequence[ModelCard], model: str | None) -> Self:
        """Create the snapshot from the server's responses.

        Args:
            props: Properties of the model, or of the router if the model is not loaded; None if unavailable.
            cards: The listed models.
            model: The requested model; None uses the first that is loaded.
        """
        from .results import ModelCard, ServerProps  # not needed to send a request

        card = _find(cards, model) or ModelCard("")
        props = props or ServerProps()
        caps, template = props.chat_template_caps, props.chat_template
        inputs = card.input_modalities
        return cls(
            model=model or card.id or props.model_alias or props.model_path or None,
            build=props.build_info,
            n_ctx=props.n_ctx or card.n_ctx,
            n_ctx_train=card.n_ctx_train,
            n_embd=card.n_embd,
            total_slots=props.total_slots,
            vision=props.modalities.get("vision", "image" in inputs if inputs else None),
            audio=props.modalities.get("audio", "audio" in inputs if inputs else None),
            video=props.modalities.get("video", "video" in inputs if inputs else None),
            tools=caps.get("supports_tools", "tools" in template if template else None),
            parallel_tool_calls=caps.get("supports_parallel_tool_calls"),
            thinking=_thinking(template),
            efforts=_efforts(template),
            default_effort=_default_effort(template),
            late_system=_late_system(template) if template else None,
            is_router=props.is_router or card.status is not None,
            is_sleeping=props.is_sleeping or card.status == "sleeping",
            status=card.status,
            pooling=_pooling(card),
        )


def _find(cards: Sequence[ModelCard], model: str | None) -> ModelCard | None:
    if model is not None:
        named = [card for card in cards if model == card.id or model in card.aliases]
        # A server with one model ignores the name, so its card holds for any.
        return named[0] if named else cards[0] if len(cards) == 1 and cards[0].status is None else None
    loaded = [card for card in cards if card.status in (None, "loaded", "sleeping")]
    return next(iter([*loaded, *cards]), None)


def _pooling(card: ModelCard) -> str | None:
    """From the command line with which a router runs a model."""
    args = texts(fields(card.raw.get("status")).get("args"))
    if "--reranking" in args:
        return "rank"
    return next((value for flag, value in pairwise(args) if flag == "--pooling"), None)


def _thinking(template: str) -> ThinkingSwitch | None:
    if not template:
        return None
    if "enable_thinking" in template:
        return "enable_thinking"
    if "reasoning_effort" in template:
        return "reasoning_effort"
    return "always" if "<think>" in template else "none"


def _efforts(template: str) -> tuple[str, ...] | None:
    """The levels that a template compares its variable with; one that only writes it out takes those of gpt-oss."""
    if "reasoning_effort" not in template:
        return () if template else None
    compared = [word for text in _COMPARED.findall(template) for word in _QUOTED.findall(text)]
    levels = [word for word in dict.fromkeys(compared) if word != "none"] or list(_GPT_OSS_EFFORTS)
    default = _default_effort(template)
    return tuple(levels if default is None or default in levels else [default, *levels])


def _default_effort(template: str) -> str | None:
    found = _DEFAULT_EFFORT.search(template)
    return found and (found[1] or found[2])


def _late_system(template: str) -> bool:
    return _ANY_ROLE.search(template) is not None and _NO_LATE_SYSTEM.search(template) is None


def media_of(messages: Iterable[MessageDict]) -> set[Medium]:
    """Return the kinds of media in the messages, except tool results, where unreadable media become notes."""
    parts = (
        part
        for message in messages
        if isinstance(content := message.get("content"), list) and message.get("role") not in ("tool", "function")
        for part in content
    )
    known = (part for part in parts if isinstance(part, Mapping) and isinstance(part.get("type", ""), str))
    return {_PART_MEDIA[kind] for part in known if (kind := part.get("type", "")) in _PART_MEDIA and part.get(kind)}
