"""Leaves the likeliest tokens out of the log probabilities: `top_logprobs=0`."""

from __future__ import annotations

from ..chat import ChatDelta
from .filters import DeltaFilter


class WithoutTopLogprobs(DeltaFilter[ChatDelta]):
    """Keeps the log probabilities of the reply's own tokens only.

    The server gives none at all for `top_logprobs: 0` (b11434), so it was asked for one.
    """

    def add(self, deltas: list[ChatDelta]) -> list[ChatDelta]:
        """The deltas, without alternatives to their tokens."""
        return [_own_token(delta) for delta in deltas]


def _own_token(delta: ChatDelta) -> ChatDelta:
    if not delta.logprobs:
        return delta
    return delta._replace(logprobs={"content": [{**token, "top_logprobs": []} for token in delta.logprobs["content"]]})
