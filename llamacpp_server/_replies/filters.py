"""What is done to the deltas of a reply, one filter after another.

A decoder makes deltas of bytes. A `Pipeline` is a decoder too: it passes each batch of them through a list of filters,
in order. So what happens to a reply, and in which order, is one list.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ..errors import LlamaServerError
from .stream import StreamDecoder

D = TypeVar("D")


class DeltaFilter(Generic[D]):
    """One thing that is done to the deltas of one reply."""

    over: bool = False
    """Whether the reply is complete and nothing more of it is wanted."""

    @abstractmethod
    def add(self, deltas: list[D]) -> list[D]:
        """The next deltas, filtered. May hold some back, and raise what makes the reply unusable."""

    def end(self) -> list[D]:
        """The deltas that were held back, at the end of the reply; raises what makes the whole reply unusable."""
        return []

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with its partial reply filtered as the deltas were."""
        return error


class Pipeline(Generic[D]):
    """A decoder whose deltas pass through filters.

    Args:
        decoder: Decodes what the server sends.
        filters: In the order in which they see the deltas.
    """

    def __init__(self, decoder: StreamDecoder[D], filters: Sequence[DeltaFilter[D]]) -> None:
        self._decoder = decoder
        self._filters = tuple(filters)
        if isinstance(decoder, Pipeline):  # one list instead of one within another, as each chunk passes all of it
            self._decoder, self._filters = decoder._decoder, (*decoder._filters, *self._filters)

    @property
    def is_done(self) -> bool:
        """Whether the end mark came."""
        return self._decoder.is_done

    @property
    def over(self) -> bool:
        """Whether nothing more of the reply is wanted."""
        return self._decoder.over or any(one.over for one in self._filters)

    def feed(self, data: bytes) -> list[D]:
        """Deltas that `data` completes."""
        deltas = self._decoder.feed(data)
        for one in self._filters:
            deltas = one.add(deltas)
        return deltas

    def close(self) -> list[D]:
        """Deltas that were left; raises when the reply is not at its end."""
        deltas = [] if self.over else self._decoder.close()
        for one in self._filters:
            deltas = one.add(deltas) + one.end()
        return deltas

    def with_partial(self, error: LlamaServerError) -> LlamaServerError:
        """`error`, with what had arrived attached."""
        error = self._decoder.with_partial(error)
        for one in self._filters:
            error = one.with_partial(error)
        return error


def pipeline(
    decoder: Callable[[], StreamDecoder[D]], filters: Sequence[Callable[[], DeltaFilter[D]]]
) -> Callable[[], StreamDecoder[D]]:
    """Makes decoders, each with filters of its own: a request that is sent again starts afresh.

    Args:
        decoder: Makes the decoder of what the server sends.
        filters: Make the filters, in order; none give `decoder` itself.
    """
    return (lambda: Pipeline(decoder(), [make() for make in filters])) if filters else decoder


__all__ = ["DeltaFilter", "Pipeline", "pipeline"]
