"""The server's tokenizer as a function, for the places where LlamaIndex wants one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from llamacpp_server import LlamaServerClient

__all__ = ["LlamaServerTokenizer"]

_MOST_TEXTS: Final = 4096
_LONGEST_KEPT: Final = 50_000


class LlamaServerTokenizer:
    """Text -> token ids, by the server's own tokenizer; equal texts are asked for once.

    For `Settings.tokenizer`, splitters, memories and token counters. A text that is new costs one request (0.3 ms on
    the same machine) and blocks, as LlamaIndex calls tokenizers from blocking code.

    Args:
        client: The server.
    """

    def __init__(self, client: LlamaServerClient) -> None:
        self._client = client
        self._known: OrderedDict[str, list[int]] = OrderedDict()

    def __call__(self, text: str) -> list[int]:
        """Token ids of the text, without those that a prompt begins or ends with."""
        known = self._known.get(text)
        if known is None:
            known = self._client.tokenize(text)
            if len(text) <= _LONGEST_KEPT:
                self._known[text] = known
            while len(self._known) > _MOST_TEXTS:
                self._known.popitem(last=False)
        return list(known)
