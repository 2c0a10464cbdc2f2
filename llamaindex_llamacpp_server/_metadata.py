"""What LlamaIndex asks of a model's metadata, answered by the running server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.function_calling import FunctionCallingLLM
from pydantic import Field, model_validator

from llamacpp_server import ServerInfo, ServerSettings
from llamacpp_server.integration import (
    ConnectionFields,
    logger,
    on_event_loop,
    warn_once,
)

from ._arguments import LLM, LLMNames, constructor_arguments
from ._events import announcing

if TYPE_CHECKING:
    from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient

__all__ = ["ServerMetadata"]

# The core reads `metadata` in constructors and properties, so a server that does not answer may only cost little.
_IMPATIENT: Final[dict[str, Any]] = {
    "connect_timeout": 1.0,
    "read_timeout": 1.0,
    "total_timeout": 2.0,
    "wait_while_refused": False,
    "on_wait": None,
    "on_progress": None,
}
_METADATA_IS_PART: Final = (
    "metadata was read on an event loop before the server was queried: "
    f"using context_window={DEFAULT_CONTEXT_WINDOW}; call `await llm.aserver_info()` first, or set context_window"
)
# After a probe that failed, nothing is asked for this many times as long as it took.
_REST: Final = 100


class ServerMetadata(LLMNames, ConnectionFields, FunctionCallingLLM):
    """`metadata` from the server. Values given by the user win; the server is asked once; nothing raises.

    A failure is not remembered: once the server answers, its values hold. Asking never loads or wakes a model.
    """

    context_window: int | None = Field(default=None, gt=0)
    """Tokens of one slot; None asks the server."""
    is_chat_model: bool = True
    """False for a model without a chat template: everything uses the completion endpoint."""
    is_function_calling_model: bool | None = None
    """Whether the model calls tools; None asks the server about its chat template."""

    @model_validator(mode="before")
    @classmethod
    def _take_other_names(cls, values: Any) -> Any:
        return constructor_arguments(LLM, values, cls)

    def server_settings(self) -> ServerSettings:
        """The fields as settings of a client, which tells event handlers of progress."""
        settings = super().server_settings()
        report = announcing(settings.on_progress)
        return settings if report is settings.on_progress else settings.replace(on_progress=report)

    @property
    def metadata(self) -> LLMMetadata:
        """What the model can do. Asks the server on first use, for at most two seconds.

        On an event loop it never asks: it tells what is known by then. Each call of the model there, awaited or
        blocking, finds out, and so does `await llm.aserver_info()`.
        """
        return self._described(self._at_once())

    def to_payload(self) -> dict[str, Any]:
        """What events and traces see of this model: no key, no address. Never asks the server on an event loop."""
        metadata = self._described(self._at_once()).model_dump()
        given = self.given() if hasattr(self, "given") else {}
        named = {"model": metadata["model_name"], "temperature": None}
        return {"class_name": self.class_name(), **metadata, **named, **given}

    def _at_once(self) -> ServerInfo | None:
        if not on_event_loop():
            return self._probe()
        known = self.known_server_info()
        if known is None and self.context_window is None:
            logger.info(_METADATA_IS_PART)
        return known

    def _described(self, info: ServerInfo | None) -> LLMMetadata:
        info = info or ServerInfo()
        able = info.tools is not False if self.is_function_calling_model is None else self.is_function_calling_model
        return LLMMetadata(
            context_window=self.context_window or info.n_ctx or DEFAULT_CONTEXT_WINDOW,
            num_output=self._most_output(),
            is_chat_model=self.is_chat_model,
            is_function_calling_model=able and self.is_chat_model,
            model_name=self.model or info.model or "unknown",
            system_role=MessageRole.SYSTEM,
        )

    def _most_output(self) -> int:
        """-1 is LlamaIndex's word for "not limited", as it is the server's."""
        for name in ("n_predict", "max_tokens"):
            limit = getattr(self, name, None)
            if limit is not None:
                return int(limit)
        return -1

    def _probe(self) -> ServerInfo | None:
        """What is known of the server, or found out now; None when it does not answer."""
        try:
            return self.quick_server_info(rest=_REST, **_IMPATIENT)
        except Exception as error:  # noqa: BLE001 (metadata must never raise)
            self._note_unknown(error)
            return None

    async def _aprobe(self) -> ServerInfo | None:
        """Async version of `_probe`."""
        try:
            return await self.aquick_server_info(rest=_REST, **_IMPATIENT)
        except Exception as error:  # noqa: BLE001 (as in `_probe`)
            self._note_unknown(error)
            return None

    def _raw_client(self) -> LlamaServerClient:
        """The client for a prompt without template. On an event loop `metadata` can't ask, so the call does."""
        if on_event_loop():
            self._probe()
        return self.client

    async def _araw_client(self) -> AsyncLlamaServerClient:
        """Async version of `_raw_client`."""
        await self._aprobe()
        return self.async_client

    def _note_unknown(self, error: Exception) -> None:
        if self.context_window is None:
            warn_once(
                f"can't query the server's model ({type(error).__name__}: {error}); using "
                f"context_window={DEFAULT_CONTEXT_WINDOW} until it is reachable"
            )
