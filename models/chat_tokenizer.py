"""A byte-level BPE tokenizer: learns merges, and splits text as llama.cpp's `gpt-2` pre-tokenizer does."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKERS = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]

_SPECIAL = re.compile("(" + "|".join(map(re.escape, sorted(SPECIAL + MARKERS, key=len, reverse=True))) + ")")
_WORDS = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+",
)
_JSON_PUNCTUATION = re.compile(r"[\"{}:,\[\]\\n_]+")


def byte_alphabet() -> list[str]:
    """The printable stand-in of each byte in a GPT-2 vocabulary."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


_BYTES = byte_alphabet()


def _spelled(text: str) -> str:
    return "".join(_BYTES[byte] for byte in text.encode())


class Tokenizer:
    """Ids: the 256 bytes, the special tokens, the markers, then one token per merge."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self.merges = merges
        self.texts = [*_BYTES, *SPECIAL, *MARKERS, *(left + right for left, right in merges)]
        self.ids = {text: n for n, text in enumerate(self.texts)}
        self.ranks = {pair: n for n, pair in enumerate(merges)}
        self._cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids, and the offset in `text` of the word that each token belongs to or starts at."""
        ids: list[int] = []
        offsets: list[int] = []
        position = 0
        for part in _SPECIAL.split(text):
            if part in self.ids and _SPECIAL.fullmatch(part):
                ids.append(self.ids[part])
                offsets.append(position)
            else:
                for match in _WORDS.finditer(part):
                    word = self._word(match.group())
                    ids += word
                    start = position + match.start()
                    offsets += [start + min(n, len(match.group()) - 1) for n in range(len(word))]
            position += len(part)
        return ids, offsets

    def _word(self, word: str) -> list[int]:
        known = self._cache.get(word)
        if known is None:
            parts = list(_spelled(word))
            while len(parts) > 1:
                pair = min(pairwise(parts), key=lambda p: self.ranks.get(p, len(self.ranks)))
                if pair not in self.ranks:
                    break
                parts = _merged(parts, pair)
            known = [self.ids[part] for part in parts]
            if len(self._cache) < 500_000:
                self._cache[word] = known
        return known


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    n = 0
    while n < len(parts):
        if n + 1 < len(parts) and (parts[n], parts[n + 1]) == pair:
            result.append(parts[n] + parts[n + 1])
            n += 2
        else:
            result.append(parts[n])
            n += 1
    return result


def learn_merges(texts: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The most frequent pairs, as in BPE, within words only.

    Spaces and digits are never merged: "Paris" and " Paris" then share their pieces, and copying a word or a number
    is copying the same tokens. Punctuation is merged only where JSON is written.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        for part in _SPECIAL.split(text):
            if not _SPECIAL.fullmatch(part):
                counts.update(_WORDS.findall(part))
    words: dict[tuple[str, ...], int] = {}
    for word, number in counts.items():
        bare = word.lstrip(" ")
        if (bare.isascii() and bare.isalpha()) or (len(bare) > 1 and _JSON_PUNCTUATION.fullmatch(bare)):
            key = tuple(_spelled(bare))
            words[key] = words.get(key, 0) + number
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, number in words.items():
            for pair in pairwise(parts):
                pairs[pair] += number
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        words_next: dict[tuple[str, ...], int] = {}
        for parts, number in words.items():
            key = tuple(_merged(list(parts), best)) if best[0] in parts else parts
            words_next[key] = words_next.get(key, 0) + number
        words = words_next
    return merges
