"""What LangChain asks of both language models alike: token ids, and how to write them down."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Self

from langchain_core.language_models import BaseLanguageModel
from pydantic import model_validator

from llamacpp_server import NotFoundError
from llamacpp_server.integration import (
    ConnectionFields,
    on_event_loop,
    warn_once,
)
from llamacpp_server.settings import redact_url

from ._errors import langchain_errors


class CheckedOnInit(ConnectionFields):
    """A model that can ask for its server while it is made."""

    validate_model_on_init: bool = False
    """Whether making the model asks the server for it, and fails where it can't be had. Not on an event loop."""

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
        """Raises for a model that a router lacks. A server with one model answers by any name."""
        cards = self.client.models() if self.model is not None else []
        known = {name for card in cards for name in (card.id, *card.aliases)}
        if any(card.status is not None for card in cards) and self.model not in known:
            listed = ", ".join(card.id for card in cards)
            raise NotFoundError(
                f"the server has no model {self.model!r}",
                url=redact_url(self.base_url),
                remedy=f"correct model= or LLAMACPP_MODEL; it has: {listed}",
            )


class ServerModel(CheckedOnInit, BaseLanguageModel[Any]):
    """A language model on a llama-server."""

    @model_validator(mode="after")
    def _set_langchain_versions(self) -> Self:
        # LangChain records them in its `model_post_init`, in whose place pydantic puts that of our private attributes.
        BaseLanguageModel.model_post_init(self, None)
        return self

    def get_token_ids(self, text: str) -> list[int]:
        """Token ids of a text, from the server; equal texts are asked for once."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        with langchain_errors:
            return self.tokenizer(text)

    def _apart(self, *more: str | None) -> dict[str, str]:
        """What tells this model from others on its server to LangChain's cache: a gateway may choose by a header.

        A digest, since a header may be secret, and caches and traces are stored.
        """
        parts = (self.default_headers, self.default_query, *(text for text in more if text))
        return {"apart": sha256(repr(parts).encode()).hexdigest()} if any(parts) else {}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """It is."""
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Fields that are written as the name of an environment variable."""
        return {"api_key": "LLAMACPP_API_KEY"}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """The address is written always, since its default is the environment's, and without credentials."""
        return {"base_url": redact_url(self.base_url)}
