"""Types of the HTTP clients that a caller brings: those of httpx, or of httpx2, which has the same names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import httpx
from pydantic import AfterValidator

__all__ = ["AsyncClientField", "ClientField", "GivenAsyncClient", "GivenClient"]


def _of_class(name: str) -> Callable[[Any], Any]:
    def check(given: Any) -> Any:
        libraries = [httpx, *([sys.modules["httpx2"]] if "httpx2" in sys.modules else [])]
        if given is None or isinstance(given, tuple(getattr(library, name) for library in libraries)):
            return given
        raise ValueError(f"must be an httpx.{name} or httpx2.{name}, not {type(given).__name__}")

    return check


class _Client(Protocol):
    """What a client of either library has, and an async one has not."""

    def close(self) -> None: ...


class _AsyncClient(Protocol):
    """What an async client of either library has."""

    async def aclose(self) -> None: ...


if TYPE_CHECKING:
    ClientField = httpx.Client | None
    AsyncClientField = httpx.AsyncClient | None
    GivenClient = _Client | None
    GivenAsyncClient = _AsyncClient | None
else:
    ClientField = Annotated[Any, AfterValidator(_of_class("Client"))]
    AsyncClientField = Annotated[Any, AfterValidator(_of_class("AsyncClient"))]
    GivenClient = GivenAsyncClient = Any
