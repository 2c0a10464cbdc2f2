"""`prewarm` of the chat model: a prompt is read before it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage, SystemMessage

from llamacpp_server.integration import (
    ConnectionFields,
)

from ._calls import Call
from ._errors import langchain_errors

if TYPE_CHECKING:
    from llamacpp_server import PromptRead, ServerInfo

    from ._tools import ToolLike


class Prewarming(ConnectionFields):
    """Two methods of `ChatLlamaServer`, which has what they use."""

    if TYPE_CHECKING:  # as methods: annotated names would be arguments of the constructor to type checkers

        def _info_for(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> ServerInfo | None: ...

        async def _ainfo_for(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> ServerInfo | None: ...

        def _prepare(
            self,
            messages: Sequence[BaseMessage],
            stop: Sequence[str] | None,
            kwargs: Mapping[str, Any],
            info: ServerInfo | None,
        ) -> Call: ...

    def prewarm(
        self,
        system: str | SystemMessage | None = None,
        tools: Sequence[ToolLike] = (),
        *,
        messages: Sequence[BaseMessage] = (),
        **kwargs: Any,
    ) -> PromptRead:
        """Load a prompt into the server's cache ahead of time, such as an agent's at program start.

        Args:
            system: The system message, as the agent has it.
            tools: The agent's tools, in its order.
            messages: A conversation that will go on.
            **kwargs: Parameters of the calls to come that change their prompt, such as `thinking`.

        Returns:
            How many tokens the prompt has, and how many of them were in the cache already.
        """
        conversation, given = _given(system, tools, messages, kwargs)
        with langchain_errors:
            call = self._prepare(conversation, None, given, self._info_for(conversation, given))
            return self.client.with_settings(**call.settings).prewarm(call.request)

    async def aprewarm(
        self,
        system: str | SystemMessage | None = None,
        tools: Sequence[ToolLike] = (),
        *,
        messages: Sequence[BaseMessage] = (),
        **kwargs: Any,
    ) -> PromptRead:
        """Async version of `prewarm`."""
        conversation, given = _given(system, tools, messages, kwargs)
        with langchain_errors:
            call = self._prepare(conversation, None, given, await self._ainfo_for(conversation, given))
            return await self.async_client.with_settings(**call.settings).prewarm(call.request)


def _given(
    system: str | SystemMessage | None,
    tools: Sequence[ToolLike],
    messages: Sequence[BaseMessage],
    kwargs: Mapping[str, Any],
) -> tuple[list[BaseMessage], dict[str, Any]]:
    first = SystemMessage(system) if isinstance(system, str) else system
    return [*([first] if first else []), *messages], {**kwargs, "tools": list(tools)}
