"""What made a recorded program slow, dearest first, and what helps: `llamacpp-server doctor`."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..client import LlamaServerClient
from ..errors import LlamaServerError
from .cache_report import CacheReport
from .recording import Recorded

__all__ = ["Cost", "Replay", "diagnose", "replay"]

# Milliseconds between the end of the prompt and its first token at the client that are no wait.
_NO_WAIT_MS: Final = 50.0
_FEW: Final = 8
_TEXTS_A_REQUEST: Final = 32
# A part of the generated tokens above which thinking is worth a word.
_MUCH_THINKING: Final = 0.5
_MOST_REPLAYED: Final = 1000


@dataclass(frozen=True, slots=True)
class Cost:
    """One cause of slowness and its cost.

    Attributes:
        kind: `context`, `ubatch`, `waiting`, `batch_size`, `swapped_models`, `thinking`, or the `kind` of a cache
            report's change: `clock`, `system`, `tools`, `tools_order`, `trimmed`, `inserted`, `message`, `template`,
            `cache`.
        what: What was found, with its numbers.
        remedy: The line or the flag that helps.
        seconds: What it would have saved, by the server's own measurements; 0 where calls failed.
        failed: Calls that failed for it.
        tokens: Tokens that were read again for it.
        options: Options of `LocalServer` that help; empty where the program has to change.
    """

    kind: str
    what: str
    remedy: str
    seconds: float = 0.0
    failed: int = 0
    tokens: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        saved = f"{self.failed} calls failed" if self.failed else f"about {self.seconds:.1f} s"
        return f"{saved}: {self.what}\n    {self.remedy}"


def diagnose(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    """Find the causes of slowness: failures first, then by the time lost.

    Args:
        server: `slots`, `n_ctx` and `is_router` of it, as far as they are known.
        calls: A recording.
    """
    looks: tuple[Callable[[Mapping[str, Any], Sequence[Recorded]], list[Cost]], ...]
    looks = (_overflows, _read_again, _waits, _batches, _swaps, _thinking)
    costs = [cost for look in looks for cost in look(server, calls)]
    return sorted(costs, key=lambda cost: (-cost.failed, -cost.seconds))


def _chats(calls: Sequence[Recorded]) -> list[Recorded]:
    return [call for call in calls if call.kind == "chat" and call.request is not None]


def _in_order(calls: Sequence[Recorded]) -> list[Recorded]:
    """The chats as they began."""
    return sorted(_chats(calls), key=lambda call: call.ended - call.seconds)


def _switches(chats: Sequence[Recorded]) -> list[int]:
    """Positions of the chats that ask another model than the one before."""
    models = [call.request.model for call in chats if call.request is not None]
    return [n for n in range(1, len(models)) if models[n] != models[n - 1]]


def _overflows(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    failed = [call for call in calls if call.error == "ContextOverflowError"]
    slots, costs = server.get("slots") or 1, list[Cost]()
    for kind in ("chat", "embeddings"):
        mine = [call for call in failed if call.of == kind]
        if not mine:
            continue
        need = max((call.n_prompt_tokens or 0 for call in mine), default=0)
        fits = next((call.n_ctx for call in mine if call.n_ctx), server.get("n_ctx") or 0)
        if kind == "embeddings":
            what = f"texts of up to {need} tokens do not fit into a batch of {fits}"
            remedy = f"-ub {_round(need)} -b {_round(need)}, or split texts into chunks of fewer than {fits} tokens"
            options = {"ubatch_size": _round(need), "batch_size": _round(need)}
            costs.append(Cost("ubatch", what, remedy, failed=len(mine), options=options))
            continue
        room = _round(need * 5 // 4)
        what = f"prompts of up to {need} tokens do not fit into the {fits} of a slot"
        if slots > 1:
            what += f": {slots} slots divide a context of {fits * slots}"
        remedy = f"-c {room * slots}" + (f", or fewer slots (-np {max(1, fits * slots // room)})" if slots > 1 else "")
        costs.append(Cost("context", what, remedy, failed=len(mine), options={"ctx_size": room * slots}))
    return costs


def _round(tokens: int) -> int:
    """The next multiple of 512."""
    return max(512, -(-tokens // 512) * 512)


def _read_again(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    report, chats = CacheReport(), _chats(calls)
    for call in chats:
        if call.request is not None:
            report.add_counts(call.request, call.usage, call.timings, call.session)
    timed = [call.timings for call in chats if call.timings is not None and call.timings.prompt_n]
    speed = sum(t.prompt_ms for t in timed) / max(1, sum(t.prompt_n for t in timed)) / 1000
    groups = defaultdict[tuple[str, str], list[tuple[int, str]]](list)
    for turn in report.turns:
        if turn.change is not None:
            groups[turn.change.kind, turn.change.hint].append((turn.again, f"{turn.change.where}: {turn.change.what}"))
    costs = []
    for (kind, hint), found in groups.items():
        tokens = sum(again for again, _ in found)
        what = f"{tokens} tokens were processed again in {len(found)} turns ({found[0][1]})"
        options = {"slot_prompt_similarity": 0.9} if kind == "cache" and (server.get("slots") or 1) > 1 else {}
        costs.append(Cost(kind, what, hint, seconds=tokens * speed, tokens=tokens, options=options))
    return costs


def _waits(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    chats = _in_order(calls)
    swapped = set(_switches(chats)) if server.get("is_router") else set()
    waited = [
        (call.timings.first_token_ms - call.timings.prompt_ms - _NO_WAIT_MS) / 1000
        for number, call in enumerate(chats)
        if number not in swapped and call.timings is not None and call.timings.first_token_ms is not None
    ]
    lost = [seconds for seconds in waited if seconds > 0]
    slots, most = server.get("slots") or 1, _most_at_once(chats)
    if not lost or most <= slots:
        return []
    what = f"{len(lost)} calls waited for a slot: up to {most} ran at once on {slots}"
    remedy = f"-np {most} (each slot needs its share of -c), or fewer calls at once, or priority='background' for some"
    options: dict[str, Any] = {"parallel": most}
    if server.get("n_ctx"):
        options["ctx_size"] = server["n_ctx"] * most
    return [Cost("waiting", what, remedy, seconds=sum(lost), options=options)]


def _most_at_once(calls: Sequence[Recorded]) -> int:
    ends = [(call.ended - call.seconds, 1) for call in calls] + [(call.ended, -1) for call in calls]
    running = most = 0
    for _, change in sorted(ends):
        running += change
        most = max(most, running)
    return most


def _batches(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    single = [call for call in calls if call.kind == "embeddings" and call.texts == 1]
    if len(single) <= _FEW:
        return []
    each = statistics.median(call.seconds for call in single)
    saved = each * (len(single) - -(-len(single) // _TEXTS_A_REQUEST)) / 2
    what = f"{len(single)} texts were embedded one at a time"
    remedy = "embed_documents(texts) or batch_size=: many texts in one request fill the server's batch (-b, -ub)"
    return [Cost("batch_size", what, remedy, seconds=saved)]


def _swaps(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    chats = _in_order(calls)
    at, models = _switches(chats), {call.request.model for call in chats if call.request is not None}
    if not server.get("is_router") or len(at) <= len(models):
        return []
    firsts = [(c.timings.first_token_ms or 0.0) / 1000 if c.timings is not None else 0.0 for c in chats]
    usual = statistics.median([firsts[n] for n in range(len(firsts)) if n not in at] or [0.0])
    lost = sum(max(0.0, firsts[n] - usual) for n in at)
    what = f"the model was swapped {len(at)} times between {len(models)} models"
    remedy = "--models-max above the number of models, or ask one model's questions together"
    return [Cost("swapped_models", what, remedy, seconds=lost, options={"models_max": len(models)})]


def _thinking(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    thought = spent = 0
    seconds = 0.0
    for call in _chats(calls):
        if call.usage is not None and call.usage.reasoning_tokens:
            part = call.usage.reasoning_tokens / max(1, call.usage.completion_tokens)
            thought += call.usage.reasoning_tokens
            seconds += part * (call.timings.predicted_ms if call.timings is not None else 0.0) / 1000
        spent += call.usage.completion_tokens if call.usage is not None else 0
    if not spent or thought / spent < _MUCH_THINKING:
        return []
    what = f"{thought} of {spent} generated tokens were reasoning"
    remedy = "thinking=False for calls that need none, thinking=256 (tokens) or max_thinking_seconds= for others"
    return [Cost("thinking", what, remedy, seconds=seconds)]


@dataclass(frozen=True, slots=True)
class Replay:
    """The cost of a recorded program when its chats were replayed.

    Attributes:
        calls: Chats that were answered.
        failed: Chats that failed.
        tokens_read: Prompt tokens that were read.
        seconds: From the first to the last.
    """

    calls: int = 0
    failed: int = 0
    tokens_read: int = 0
    seconds: float = 0.0


def replay(client: LlamaServerClient, calls: Sequence[Recorded]) -> Replay:
    """Send a recording's chats again: each session in its order, the sessions side by side, answers of equal length.

    Args:
        client: Of the server; its own keys and address are used, the recording has none.
        calls: The first 1,000 chats of them are sent.
    """
    sessions = defaultdict[str | None, list[Recorded]](list)
    for call in _chats(calls)[:_MOST_REPLAYED]:
        sessions[call.session].append(call)
    results, lock = list[Replay](), threading.Lock()

    def run(mine: Sequence[Recorded]) -> None:
        found = Replay()
        for call in mine:
            found = _again(client, call, found)
        with lock:
            results.append(found)

    threads = [threading.Thread(target=run, args=(mine,), daemon=True) for mine in sessions.values()]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Replay(seconds=time.monotonic() - begun)
    for found in results:
        total = replace(
            total,
            calls=total.calls + found.calls,
            failed=total.failed + found.failed,
            tokens_read=total.tokens_read + found.tokens_read,
        )
    return total


def _again(client: LlamaServerClient, call: Recorded, found: Replay) -> Replay:
    assert call.request is not None  # noqa: S101 (for the type checker)
    tokens = call.usage.completion_tokens if call.usage is not None else 1
    request = replace(call.request, params={**call.request.params, "max_tokens": max(1, tokens)}, forced_round=False)
    try:
        reply = client.chat(replace(request, missing_call_is_error=False))
    except LlamaServerError:
        return replace(found, failed=found.failed + 1)
    read = reply.timings.prompt_n if reply.timings is not None else 0
    return replace(found, calls=found.calls + 1, tokens_read=found.tokens_read + read)
