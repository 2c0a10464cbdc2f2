"""Convert labels, as paths of tokens, to one question to the model for each branch.

The probability of a label is the product of those at the branches on its path. A path without branches costs nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

Path = tuple[int, ...]
Split = tuple[Path, tuple[int, ...]]
"""The tokens before a place, and the tokens that may follow there."""

# Below this, what is divided further changes no probability that anybody reads.
_NEGLIGIBLE = 1e-4


def walk(paths: Sequence[Sequence[Path]], end: int | None) -> Generator[Split, dict[int, float], list[float]]:
    """Yields each place where paths part, is sent the probability of each token there, and returns one for each label.

    Args:
        paths: For each label, the paths of tokens that spell it; no path stands for two labels.
        end: The token that ends a reply, for a label that is the beginning of another; None where unknown, which
            divides the probability of such a place equally.
    """
    leaves: dict[Path, int] = {path: at for at, spelled in enumerate(paths) for path in spelled}
    found = [0.0] * len(paths)
    waiting: list[tuple[Path, float]] = [((), 1.0)]
    while waiting:
        prefix, probability = waiting.pop()
        below = {path: at for path, at in leaves.items() if path[: len(prefix)] == prefix}
        if len(labels := set(below.values())) == 1:
            found[labels.pop()] += probability
        elif probability < _NEGLIGIBLE:
            for at in labels:
                found[at] += probability / len(labels)
        else:
            steps = sorted({path[: len(prefix) + 1] for path in below if len(path) > len(prefix)})
            stop = leaves.get(prefix)
            shares = yield from _shares(prefix, [step[-1] for step in steps], end, ends=stop is not None)
            if stop is not None:
                found[stop] += probability * shares.pop()
            waiting += [(step, probability * share) for step, share in zip(steps, shares, strict=True)]
    return found


def _shares(
    prefix: Path, tokens: Sequence[int], end: int | None, *, ends: bool
) -> Generator[Split, dict[int, float], list[float]]:
    """The share of each token, and last that of the end where a label may end here."""
    asked = [*tokens, end] if ends and end is not None and end not in tokens else list(tokens)
    given = (yield prefix, tuple(asked)) if len(asked) > 1 else {asked[0]: 1.0}
    shares = [given.get(token, 0.0) for token in asked]
    total = sum(shares)
    shares = [share / total for share in shares] if total > 0.0 else [1.0 / len(asked)] * len(asked)
    if ends and len(asked) == len(tokens):  # how likely the end is can't be known
        shares = [*(share * len(tokens) / (len(tokens) + 1) for share in shares), 1.0 / (len(tokens) + 1)]
    return shares
