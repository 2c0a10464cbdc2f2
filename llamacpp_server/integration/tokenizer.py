"""The server's tokenizer as an object for frameworks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import BadRequestError

if TYPE_CHECKING:
    from ..client import LlamaServerClient
else:  # hints resolve at runtime too, and the import stays quick
    LlamaServerClient = Any

__all__ = ["LlamaServerTokenizer"]

_MOST_TEXTS: Final = 4096
_LONGEST_KEPT: Final = 50_000


class LlamaServerTokenizer:
    """The server's tokenizer: text to token IDs, with a cache.

    As a callable, it is a tokenizer for LlamaIndex (`Settings.tokenizer`, splitters, memories). `count` is a
    `length_function` for LangChain's splitters, `encode` and `decode` make a `Tokenizer` of `langchain_text_splitters`.

    A new text needs one blocking request (0.3 ms on the same machine), since the frameworks call tokenizers from
    blocking code.

    Args:
        client: Client of the server.
    """

    def __init__(self, client: LlamaServerClient) -> None:
        self._client = client
        self._known: OrderedDict[str, list[int]] = OrderedDict()

    def __call__(self, text: str) -> list[int]:
        """Token ids of the text, without those that a prompt begins or ends with."""
        if not isinstance(text, str):
            raise BadRequestError(f"text must be a string, not {type(text).__name__}")
        known = self._known.get(text)
        if known is None:
            known = self._client.tokenize(text)
            if len(text) <= _LONGEST_KEPT:
                self._known[text] = known
            while len(self._known) > _MOST_TEXTS:
                self._known.popitem(last=False)
        return list(known)

    def encode(self, text: str) -> list[int]:
        """Encode text into token IDs."""
        return self(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Decode token IDs to text. Parts of a character become U+FFFD (by the server)."""
        return self._client.detokenize(tokens) if tokens else ""

    def count(self, text: str) -> int:
        """Count the tokens of a text."""
        return len(self(text)) if text else 0
