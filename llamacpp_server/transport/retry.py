"""Whether a failed attempt is repeated, and after how long. Decisions only: nothing here sleeps or sends."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import (
    ConnectionFailedError,
    ContextOverflowError,
    LlamaServerError,
    RequestTimeoutError,
    ServerBusyError,
    ServerFaultError,
    ServerLoadingError,
)
from ..settings import ServerSettings

# A tiny model is up in 40 ms and a big one takes minutes: ask often at first, then every two seconds.
_FIRST_POLL, _SLOWEST_POLL = 0.05, 2.0
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.25, 8.0
MAX_RETRY_AFTER = 60.0
"""Longest Retry-After that is honoured; for a longer one the error is raised at once, which is more honest."""


@dataclass(slots=True)
class RetryState:
    """Attempts so far for one request."""

    polls: int = 0
    retries: int = 0
    resent: bool = False
    above: bool = False
    """Whether a layer above is repeating this request, after our own repeats did not help."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Sleep `seconds`, then send again.

    Attributes:
        seconds: 0 sends again at once.
        reason: As in `WaitState`.
        budget: As in `WaitState`.
    """

    seconds: float
    reason: str
    budget: float | None = None


def next_wait(
    error: LlamaServerError, tried: RetryState, elapsed: float, settings: ServerSettings, jitter: float
) -> Wait | None:
    """Decide how to continue after `error`; None raises it. Counts the decision in `tried`.

    Args:
        error: What the last attempt ended in. Nothing of a reply was passed on yet.
        tried: What was tried so far.
        elapsed: Seconds since the first attempt.
        settings: The limits.
        jitter: A random number from 0 to 1, so that many clients don't come back at once.
    """
    wait = _decide(error, tried, elapsed, settings, jitter)
    if wait is not None and settings.total_timeout is not None and elapsed + wait.seconds >= settings.total_timeout:
        return None
    return wait


def _decide(
    error: LlamaServerError, tried: RetryState, elapsed: float, settings: ServerSettings, jitter: float
) -> Wait | None:
    reason = error.reason if isinstance(error, ConnectionFailedError) else None
    unreached = isinstance(error, ServerFaultError) and not error.reached
    if unreached and settings.wait_while_refused:
        reason = "refused"
    if reason == "refused" or isinstance(error, ServerLoadingError):
        asked = settings.wait_while_refused if reason else settings.wait_while_loading
        return _poll("refused" if reason else "loading", tried, elapsed, settings) if asked else None
    if reason == "closed":
        # The server closes an idle socket after 5 s, and each one after an error: this one was stale.
        first, tried.resent = not tried.resent and not tried.above, True
        return Wait(0.0, "retry") if first else None
    # What a shared context has no room for needs a place of its own, not a pause: see `placed_reply`.
    crowded = isinstance(error, ServerBusyError) and error.shared_context
    if crowded or tried.above or tried.retries >= settings.max_retries:
        return None
    backoff = _backoff(tried.retries, jitter)
    silent = isinstance(error, RequestTimeoutError) and error.limit == "read_timeout"
    if (silent and settings.retry_read_timeout) or unreached or reason in ("timeout", "name", "other"):
        tried.retries += 1
        return Wait(backoff, "retry")
    if isinstance(error, ServerBusyError) and (error.retry_after or 0.0) <= MAX_RETRY_AFTER:
        tried.retries += 1
        return Wait(max(error.retry_after or 0.0, backoff), "busy")
    return None


def _poll(reason: str, tried: RetryState, elapsed: float, settings: ServerSettings) -> Wait | None:
    left = settings.load_timeout - elapsed
    if left <= 0:
        return None
    seconds = min(_FIRST_POLL * 2 ** min(tried.polls, 9), _SLOWEST_POLL, left)
    tried.polls += 1
    return Wait(seconds, reason, settings.load_timeout)


def crowded_pause(rounds: int, jitter: float) -> float:
    """Seconds before a request that other processes crowded out of a shared context is sent again."""
    return _backoff(rounds, jitter)


def overflow_of(error: ServerBusyError) -> ContextOverflowError:
    """The error of a request that did not fit though it was alone."""
    alone = error.recast(ContextOverflowError)
    alone.n_prompt_tokens = alone.n_ctx = None
    alone.remedy = "it does not fit even alone: shorten it, or start the server with a larger -c"
    return alone


def _backoff(retries: int, jitter: float) -> float:
    return float(min(_FIRST_BACKOFF * 2**retries, _LONGEST_BACKOFF)) * (0.5 + jitter / 2)
