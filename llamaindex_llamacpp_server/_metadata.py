"""Metadata of a model from the running server. Nothing here raises.

A failure is not remembered: once the server answers, its values are used. Queries never load or wake a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW

from llamacpp_server import ServerInfo
from llamacpp_server.integration import logger, on_event_loop, warn_once

if TYPE_CHECKING:
    from .llms import LlamaServer

__all__ = ["aprobe", "described", "facts", "info_at_once", "probe"]

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
_UNKNOWN: Final = ServerInfo()
# After a probe that failed, nothing is asked for this many times as long as it took.
_REST: Final = 100


def info_at_once(llm: LlamaServer) -> ServerInfo | None:
    """Return the server info, queried if unknown; on an event loop, which must not block, only if known."""
    if not on_event_loop():
        return probe(llm)
    known = llm.known_server_info()
    if known is None and llm.context_window is None:
        logger.info(_METADATA_IS_PART)
    return known


def described(llm: LlamaServer, info: ServerInfo | None) -> LLMMetadata:
    """The metadata: the user's values, else the server's, else LlamaIndex's defaults."""
    return LLMMetadata(**facts(llm, info))


def facts(llm: LlamaServer, info: ServerInfo | None) -> dict[str, Any]:
    """The fields of the metadata, which each call's events show."""
    info = info or _UNKNOWN
    able = info.tools is not False if llm.is_function_calling_model is None else llm.is_function_calling_model
    return {
        "context_window": llm.context_window or info.n_ctx or DEFAULT_CONTEXT_WINDOW,
        "num_output": _most_output(llm),
        "is_chat_model": llm.is_chat_model,
        "is_function_calling_model": able and llm.is_chat_model,
        "model_name": llm.model or info.model or "unknown",
        "system_role": MessageRole.SYSTEM,
    }


def _most_output(llm: LlamaServer) -> int:
    """-1 means "no limit" in LlamaIndex, as on the server."""
    limit = llm.max_tokens if llm.n_predict is None else llm.n_predict
    return -1 if limit is None else int(limit)


def probe(llm: LlamaServer) -> ServerInfo | None:
    """Return the server info, queried if unknown; None if the server does not answer."""
    try:
        return llm.quick_server_info(rest=_REST, **_IMPATIENT)
    except Exception as error:  # noqa: BLE001 (metadata must never raise)
        _note_unknown(llm, error)
        return None


async def aprobe(llm: LlamaServer) -> ServerInfo | None:
    """Async version of `probe`."""
    try:
        return await llm.aquick_server_info(rest=_REST, **_IMPATIENT)
    except Exception as error:  # noqa: BLE001 (as in `probe`)
        _note_unknown(llm, error)
        return None


def _note_unknown(llm: LlamaServer, error: Exception) -> None:
    if llm.context_window is None:
        warn_once(
            f"can't query the server's model ({type(error).__name__}: {error}); using "
            f"context_window={DEFAULT_CONTEXT_WINDOW} until it is reachable"
        )
