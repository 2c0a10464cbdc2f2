"""Shared parts of the LangChain classes: the server check at construction, token IDs, and a cache key."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Self

from pydantic import model_validator

from llamacpp_server import NotFoundError
from llamacpp_server.integration import (
    ConnectionFields,
    on_event_loop,
    warn_once,
)
from llamacpp_server.settings import redact_url

from ._errors import langchain_errors


class ServerModel(ConnectionFields):
    """A model on a llama-server, which can be checked at construction."""

    validate_model_on_init: bool = False
    """Whether the constructor checks that the server has the model. Not on an event loop."""

    @model_validator(mode="after")
    def _check_server(self) -> Self:
        if self.validate_model_on_init:
            if on_event_loop():
                warn_once("validate_model_on_init: skipped on an event loop, which it would block")
            else:
                with langchain_errors:
                    self.server_info()
                    self._find_model()
        return self

    def _find_model(self) -> None:
        """Raise an error for a model that a router does not have. A server with one model accepts any name."""
        cards = self.client.models() if self.model is not None else []
        known = {name for card in cards for name in (card.id, *card.aliases)}
        if any(card.status is not None for card in cards) and self.model not in known:
            listed = ", ".join(card.id for card in cards)
            raise NotFoundError(
                f"the server has no model {self.model!r}",
                url=redact_url(self.base_url),
                remedy=f"correct model= or LLAMACPP_MODEL; it has: {listed}",
            )


def token_ids(model: Any, text: str) -> list[int]:
    """Return the token IDs of a text, from the server; results are cached."""
    if model.custom_get_token_ids is not None:
        return list(model.custom_get_token_ids(text))
    with langchain_errors:
        return list(model.tokenizer(text))


def cache_identity(model: ConnectionFields, *more: str | None) -> dict[str, str]:
    """Key of this model in LangChain's cache; includes headers, by which a gateway may choose a model.

    A digest, since a header may be secret, and caches and traces are stored.
    """
    parts = (model.default_headers, model.default_query, *filter(None, more))
    return {"apart": sha256(repr(parts).encode()).hexdigest()} if any(parts) else {}
