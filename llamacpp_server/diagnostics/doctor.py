"""The causes of a recorded program's slowness, most expensive first, and remedies: `llamacpp-server doctor`."""

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
# What the server computes as one batch, and so can't be longer than that.
_IN_ONE_BATCH: Final = ("embeddings", "rerank")
_ONE_BY_ONE: Final = (
    ("embeddings", "embedded", "embed_documents(texts) or batch_size="),
    ("rerank", "ranked", "rerank(query, documents) with all documents"),
)
_MOST_REPLAYED: Final = 1000


@dataclass(frozen=True, slots=True)
class Cost:
    """One cause of slowness and its cost.

    Attributes:
        kind: `context`, `ubatch`, `waiting`, `batch_size`, `swapped_models`, `thinking`, or the `kind` of a change in a
            cache report: `clock`, `system`, `tools`, `tools_order`, `trimmed`, `inserted`, `message`, `template`,
            `cache`.
        what: The finding, with numbers.
        remedy: The line of code or the flag that helps.
        seconds: Seconds that the remedy would have saved, from the server's measurements; 0 for failed calls.
        failed: Calls that failed because of it.
        tokens: Tokens that were processed again because of it.
        options: Options of `LocalServer` that help; empty if the program has to change.
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
        server: Its `slots`, `n_ctx` and `is_router`, as far as known, for calls without a server.
        calls: A recording.
    """
    servers = defaultdict[str, list[Recorded]](list)
    for call in calls:
        servers[str(call.server.get("id", ""))].append(call)
    costs = list[Cost]()
    for mine in servers.values():
        known = next((call.server for call in reversed(mine) if len(call.server) > 1), server)
        costs += _costs_of(known, mine)
    return sorted(costs, key=lambda cost: (-cost.failed, -cost.seconds))


def _costs_of(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    """The causes of one server."""
    looks: tuple[Callable[[Mapping[str, Any], Sequence[Recorded]], list[Cost]], ...]
    looks = (_overflows, _read_again, _waits, _batches, _swaps, _thinking)
    return [cost for look in looks for cost in look(server, calls)]


def _chats(calls: Sequence[Recorded]) -> list[Recorded]:
    return [call for call in calls if call.kind == "chat" and call.request is not None]


def _by_start(calls: Sequence[Recorded]) -> list[Recorded]:
    """The calls that ran, as they began."""
    return sorted((call for call in calls if call.kind != "error"), key=lambda call: call.ended - call.seconds)


def _switches(chats: Sequence[Recorded]) -> list[int]:
    """Positions of the calls that ask another model than the one before."""
    models = [call.model for call in chats]
    return [n for n in range(1, len(models)) if models[n] != models[n - 1]]


def _overflows(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    failed = [call for call in calls if call.error == "ContextOverflowError"]
    batches = [call for call in failed if call.of in _IN_ONE_BATCH]
    # A text that is longer than the batch may be longer than the context as well; the server names what it met first.
    above = [call for call in batches if call.n_ctx and call.n_ctx >= (server.get("n_ctx") or call.n_ctx + 1)]
    chats, batches = [call for call in failed if call not in batches], [call for call in batches if call not in above]
    costs = [_context(server, mine, in_batch=mine is above) for mine in (chats, above) if mine]
    if batches:
        need, fits = _needed(batches), next((call.n_ctx for call in batches if call.n_ctx), 0)
        room = _round(need)
        what = f"texts of up to {need} tokens do not fit into a batch of {fits}"
        remedy = f"-ub {room} -b {room}, or split texts into chunks of fewer than {fits} tokens"
        options = {"ubatch_size": room, "batch_size": room}
        costs.append(Cost("ubatch", what, remedy, failed=len(batches), options=options))
    return costs


def _needed(calls: Sequence[Recorded]) -> int:
    return max((call.n_prompt_tokens or 0 for call in calls), default=0)


def _context(server: Mapping[str, Any], calls: Sequence[Recorded], *, in_batch: bool) -> Cost:
    """Requests that did not fit into the context of a slot.

    Args:
        server: Of these calls.
        calls: They failed.
        in_batch: Whether the server reads their texts as one batch, which has to be as large.
    """
    need, slots = _needed(calls), server.get("slots") or 1
    fits = next((call.n_ctx for call in calls if call.n_ctx), server.get("n_ctx") or 0)
    room = _round(need * 5 // 4)
    what = f"prompts of up to {need} tokens do not fit into the {fits} of a slot"
    if slots > 1:
        what += f": {slots} slots divide a context of {fits * slots}"
    remedy, options = f"-c {room * slots}", {"ctx_size": room * slots}
    if in_batch:
        remedy, options = f"{remedy} -ub {room} -b {room}", options | {"ubatch_size": room, "batch_size": room}
    fewer = fits * slots // room
    if slots > 1 and fewer:
        remedy += f", or fewer slots (-np {fewer})"
    return Cost("context", what, remedy, failed=len(calls), options=options)


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
        what = f"{tokens} tokens were reprocessed in {len(found)} turns ({found[0][1]})"
        options = {"slot_prompt_similarity": 0.9} if kind == "cache" and (server.get("slots") or 1) > 1 else {}
        costs.append(Cost(kind, what, hint, seconds=tokens * speed, tokens=tokens, options=options))
    return costs


def _waits(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    ran, is_router = _by_start(calls), bool(server.get("is_router"))
    swapped = set(_switches(ran)) if is_router else set()
    waited = [
        (call.timings.first_token_ms - call.timings.prompt_ms - _NO_WAIT_MS) / 1000
        for number, call in enumerate(ran)
        if number not in swapped and call.timings is not None and call.timings.first_token_ms is not None
    ]
    lost = [seconds for seconds in waited if seconds > 0]
    models = {call.model for call in ran} if is_router else {""}  # each model of a router has slots of its own
    most = max((_most_at_once([c for c in ran if not is_router or c.model == model]) for model in models), default=0)
    slots = server.get("slots") or 1
    if not lost or most <= slots:
        return []
    what = f"{len(lost)} calls waited for a slot: up to {most} ran at once on {slots} slots"
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
    costs = list[Cost]()
    for kind, did, how in _ONE_BY_ONE:
        single = [call for call in calls if call.kind == kind and call.texts == 1]
        if len(single) <= _FEW:
            continue
        each = statistics.median(call.seconds for call in single)
        saved = each * (len(single) - -(-len(single) // _TEXTS_A_REQUEST)) / 2
        remedy = f"{how}: many texts in one request fill the server's batch (-b, -ub)"
        costs.append(Cost("batch_size", f"{len(single)} texts were {did} one at a time", remedy, seconds=saved))
    return costs


def _swaps(server: Mapping[str, Any], calls: Sequence[Recorded]) -> list[Cost]:
    ran = _by_start(calls)
    at, models = _switches(ran), {call.model for call in ran}
    if not server.get("is_router") or len(at) <= len(models):
        return []
    known = [call.timings.first_token_ms if call.timings is not None else None for call in ran]
    firsts = [call.seconds if ms is None else ms / 1000 for call, ms in zip(ran, known, strict=True)]
    usual = statistics.median([firsts[n] for n in range(len(firsts)) if n not in at] or [0.0])
    # Where all models stay loaded, the first call of another one takes no longer than the next.
    lost = sum(firsts[n] - usual for n in at if firsts[n] > 2 * usual)
    if not lost:
        return []
    what = f"the model was swapped {len(at)} times between {len(models)} models"
    remedy = "--models-max above the number of models, or group the calls by model"
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
    """The cost of replaying the chats of a recording.

    Attributes:
        calls: Number of answered chats.
        failed: Number of failed chats.
        tokens_read: Prompt tokens that were processed.
        seconds: Total time, in seconds.
    """

    calls: int = 0
    failed: int = 0
    tokens_read: int = 0
    seconds: float = 0.0


def replay(client: LlamaServerClient, calls: Sequence[Recorded]) -> Replay:
    """Send the chats of a recording again: sessions concurrently, each in its order, with answers of equal length.

    Calls without a session run concurrently if they did so originally. Recordings contain no images, so chats with
    images are left out.

    Args:
        client: Client of the server; a recording contains no keys or addresses.
        calls: The recorded calls; the first 1,000 chats are sent.
    """
    chats = [call for call in _chats(calls) if not _had_media(call)][:_MOST_REPLAYED]
    sessions = defaultdict[str, list[Recorded]](list)
    for call in chats:
        if call.session is not None:
            sessions[call.session].append(call)
    lanes = [*sessions.values(), *_lanes([call for call in chats if call.session is None])]
    results, lock = list[Replay](), threading.Lock()

    def run(mine: Sequence[Recorded]) -> None:
        found = Replay()
        for call in mine:
            found = _again(client, call, found)
        with lock:
            results.append(found)

    threads = [threading.Thread(target=run, args=(mine,), daemon=True) for mine in lanes]
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


def _had_media(call: Recorded) -> bool:
    contents = [message.get("content") for message in call.request.messages] if call.request is not None else []
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, Mapping) and part.get("type") != "text" for part in parts)


def _lanes(chats: Sequence[Recorded]) -> list[list[Recorded]]:
    """The chats in as few rows as ran side by side, each after one that had ended, if possible of its conversation."""
    lanes = list[list[Recorded]]()
    for call in _by_start(chats):
        free = [lane for lane in lanes if lane[-1].ended <= call.ended - call.seconds]
        if not free:
            lanes.append([call])
            continue
        max(free, key=lambda lane: _common_messages(lane[-1], call)).append(call)
    return lanes


def _common_messages(one: Recorded, other: Recorded) -> int:
    """Number of messages at the start that two chats share."""
    pair = (one.request.messages if one.request else (), other.request.messages if other.request else ())
    return next((n for n, (left, right) in enumerate(zip(*pair, strict=False)) if left != right), min(map(len, pair)))


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
