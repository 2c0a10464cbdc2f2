"""Checks of a server's capabilities and setup: `llamacpp-server check`."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from ..client import LlamaServerClient
from ..errors import AuthenticationFailedError, LlamaServerError, NotFoundError, NotSupportedError
from ..info import ServerInfo
from ..requests import ChatRequest
from ..settings import redact_url
from ..transport import (
    Call,
    address_in_use,
    ask,
)

CAPABILITIES: Final = (
    "chat", "embeddings", "rerank", "images", "audio", "tools", "thinking", "slots", "metrics",
)  # fmt: skip
"""Capabilities that a check can require."""

_HEALTH_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: Subject of the check.
        status: `ok`; `off`: not enabled, or unsupported by the model; `unknown`: not reported by the build; `warning`:
            enabled and dangerous; `failed`.
        detail: The finding.
        remedy: What to do about it; None if nothing, or if unknown.
    """

    name: str
    status: Literal["ok", "off", "unknown", "warning", "failed"]
    detail: str
    remedy: str | None = None


def preflight(client: LlamaServerClient, needed: Collection[str] = ()) -> Iterator[Finding]:
    """Run the checks in order, and stop if the rest is pointless. Waits while the model loads.

    Args:
        client: Client of the server. A sleeping model is woken, and a router loads the model.
        needed: Required items of `CAPABILITIES`; those that are not `ok` become `failed`.
    """
    for name, look in (("reachable", _reach), ("ready", _load), ("key", _authenticate), ("model", _choose)):
        try:
            finding = Finding(name, *look(client))
        except LlamaServerError as error:
            finding = _failed(name, error)
        yield finding
        if finding.status == "failed":
            return
    client = client.with_settings(model=client.model_name())
    answers = _answers(client)
    for finding in (*answers, *_relevant_findings(answers, _abilities(client))):
        lacking = finding.name in needed and finding.status != "ok"
        yield replace(finding, status="failed") if lacking else finding


# -- what everything else needs


Found = tuple[Literal["ok", "failed"], str] | tuple[Literal["ok", "failed"], str, str]


def _reach(client: LlamaServerClient) -> Found:
    # One attempt: a server that needs several is not well. It answers this at once, also while it loads or works.
    client.with_settings(max_retries=0, total_timeout=_HEALTH_TIMEOUT).health()
    return "ok", redact_url(address_in_use(client.settings))


def _load(client: LlamaServerClient) -> Found:
    started = time.monotonic()
    client.wait_until_ready()
    took = time.monotonic() - started
    return "ok", "the server can answer" + (f", after {took:.0f} s of loading" if took > 1 else "")


def _authenticate(client: LlamaServerClient) -> Found:
    client.models()
    return "ok", "accepted, or not required" if client.settings.api_key else "not required"


def _choose(client: LlamaServerClient) -> Found:
    cards, name = client.models(), client.settings.model
    listed = ", ".join(card.id for card in cards) or "none"
    if name is not None:
        if any(name == card.id or name in card.aliases for card in cards):
            return "ok", f"{name} is listed"
        return "failed", f"{name} is not listed; the server has {listed}", "correct --model or LLAMACPP_MODEL"
    loaded = [card.id for card in cards if card.status in (None, "loaded", "sleeping")]
    if loaded:
        return "ok", loaded[0]
    remedy = "name one with --model or LLAMACPP_MODEL" if cards else "start the server with -m model.gguf"
    return "failed", f"none is loaded; the server has {listed}", remedy


# -- what it answers


def _answers(client: LlamaServerClient) -> list[Finding]:
    """One small request of each kind."""
    hello = ChatRequest(messages=[{"role": "user", "content": "Hello"}], params={"max_tokens": 1})
    chat = _probe("chat", lambda: client.chat(hello))
    if chat.status == "failed" and "logits" in chat.detail:
        chat = Finding("chat", "off", "the model generates no text", "to chat, start another server with a chat model")
    rerank = _probe("rerank", lambda: client.rerank("query", ["document"]))
    embeddings = _probe("embeddings", lambda: client.embed(["text"]))
    if rerank.status == embeddings.status == "ok":
        # Such a server does answer, with vectors that are not even numbers (b11434).
        embeddings = Finding("embeddings", "off", "this is a reranking server", "start the server without --reranking")
    return [chat, embeddings, rerank]


def _relevant_findings(answers: list[Finding], abilities: list[Finding]) -> list[Finding]:
    """The abilities without advice that is of no use to a server whose model embeds or reranks."""
    working = {finding.name for finding in answers if finding.status == "ok"}
    if "chat" in working or not working:
        return abilities
    reranks = "rerank" in working
    kind = "a reranker" if reranks else "an embedder"
    # Some embedders take images; no reranker does.
    without = {"tools", "thinking", "audio", *(["images"] if reranks else [])}
    return [
        Finding(found.name, "off", f"not supported by {kind}")
        if found.name in without and found.status != "ok"
        else found
        for found in abilities
    ]


def _probe(name: str, ask: Callable[[], object]) -> Finding:
    started = time.monotonic()
    try:
        ask()
    except NotSupportedError as error:
        # The words of a 501 only say what the remedy says.
        words = "not enabled" if error.status == 501 and error.remedy else error.server_message
        return Finding(name, "off", words or error.message, error.remedy)
    except LlamaServerError as error:
        return _failed(name, error)
    return Finding(name, "ok", f"answers in {_ms(started)}")


# -- what it says of itself


def _abilities(client: LlamaServerClient) -> list[Finding]:
    try:
        info = client.info()
    except LlamaServerError as error:
        return [_failed("properties", error)]
    mmproj = "start the server with --mmproj projector.gguf, made for this model"
    template = "use a model whose chat template supports them, or set one with --chat-template-file (and --jinja)"
    thinking = None if info.thinking is None else info.thinking != "none"
    return [
        Finding("build", "ok" if info.build else "unknown", info.build or _UNKNOWN),
        _context(info),
        _ability("images", info.vision, "can be sent", mmproj),
        _ability("audio", info.audio, "can be sent", mmproj),
        _ability("tools", info.tools, "supported by the chat template", template),
        _ability("thinking", thinking, f"supported by the chat template ({info.thinking})", template),
        _probe("slots", client.slots),
        _probe("metrics", client.metrics),
        _exposure(client),
    ]


def _exposure(client: LlamaServerClient) -> Finding:
    """Check what `--tools`, `--agent` and the web UI's proxy expose to everyone who reaches the port."""
    opened, once = list[str](), client.settings.replace(max_retries=0)
    for path in ("/tools", "/cors-proxy"):
        try:
            opened += client.transport.run(ask(once, Call(method="GET", path=path), _names))
        except (AuthenticationFailedError, NotFoundError, NotSupportedError):
            continue  # 403 with the type `feature_disabled` (b11434), or a build that has none
        except LlamaServerError as error:
            if path == "/tools" or error.status is None:
                return Finding("exposure", "unknown", error.message)
            opened.append("a proxy to other hosts")  # it complains that it was given no address
    if not opened:
        return Finding("exposure", "ok", "none: the server's own tools are off")
    detail = f"anyone who can reach this port (and has the key) can use the server's own tools: {', '.join(opened)}"
    return Finding("exposure", "warning", detail, "start the server without --tools, --agent and --ui-mcp-proxy")


def _names(answer: Any) -> list[str]:
    return [str(entry["tool"]) for entry in answer]


_UNKNOWN: Final = "not reported by the server"


def _context(info: ServerInfo) -> Finding:
    if info.n_ctx is None:
        return Finding("context", "unknown", _UNKNOWN)
    slots = "" if info.total_slots is None else f" in each of {info.total_slots} slots"
    trained = "" if info.n_ctx_train is None else f" (trained with {info.n_ctx_train})"
    return Finding("context", "ok", f"{info.n_ctx} tokens{slots}{trained}")


def _ability(name: str, there: bool | None, detail: str, remedy: str) -> Finding:
    if there is None:
        return Finding(name, "unknown", _UNKNOWN)
    return Finding(name, "ok", detail) if there else Finding(name, "off", "not supported by this model", remedy)


def _failed(name: str, error: LlamaServerError) -> Finding:
    return Finding(name, "failed", error.message, error.remedy)


def _ms(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:.0f} ms"
