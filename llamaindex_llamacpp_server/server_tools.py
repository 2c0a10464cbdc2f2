"""Tools run by llama-server (`--tools`, `--mcp-servers-config`), as LlamaIndex tools. See the warning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.tools import AsyncBaseTool, ToolMetadata, ToolOutput

from llamacpp_server.integration import named_tools

if TYPE_CHECKING:
    from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient, ServerTool, ServerToolOutput

__all__ = ["server_tools"]


def server_tools(
    client: LlamaServerClient, names: Sequence[str], *, async_client: AsyncLlamaServerClient | None = None
) -> list[AsyncBaseTool]:
    """Return the named tools of a server, for an agent.

    They run on the server's machine as the server's user. A model that reads untrusted text can be tricked into calling
    them, so name only those it may call; with `exec_shell_command`, `write_file` or `edit_file` it can do anything
    there.

    Examples:
        >>> tools = server_tools(llm.client, ["grep_search"], async_client=llm.async_client)  # doctest: +SKIP

    Args:
        client: Client of the server.
        names: The tools to offer; there is no way to select all.
        async_client: Async client of the same server, for async agents; None runs the tools in threads.

    Raises:
        BadRequestError: For a name that the server does not have.
        NotSupportedError: If the server has no tools.
    """
    return [_ServerTool(client, async_client, tool) for tool in named_tools(client, names)]


class _Metadata(ToolMetadata):
    """Metadata of a tool whose arguments are described by a JSON schema instead of a class."""

    def __init__(self, tool: ServerTool) -> None:
        super().__init__(description=tool.description, name=tool.name, fn_schema=None)
        self._parameters = dict(tool.parameters)

    def get_parameters_dict(self) -> dict[str, Any]:
        """The server's own schema."""
        return self._parameters

    @property
    def fn_schema_str(self) -> str:
        """The schema as text, for agents' prompts."""
        return json.dumps(self._parameters, ensure_ascii=False)


class _ServerTool(AsyncBaseTool):
    """One tool of a server."""

    def __init__(
        self, client: LlamaServerClient, async_client: AsyncLlamaServerClient | None, tool: ServerTool
    ) -> None:
        self._client, self._async_client = client, async_client
        self._metadata = _Metadata(tool)

    @property
    def metadata(self) -> ToolMetadata:
        """Its name, description and schema."""
        return self._metadata

    def call(self, *args: Any, **arguments: Any) -> ToolOutput:
        """Run it on the server's machine."""
        return self._output(self._client.call_server_tool(self._metadata.get_name(), arguments), arguments)

    async def acall(self, *args: Any, **arguments: Any) -> ToolOutput:
        """Async version of `call`."""
        if self._async_client is None:
            return await asyncio.to_thread(self.call, **arguments)
        output = await self._async_client.call_server_tool(self._metadata.get_name(), arguments)
        return self._output(output, arguments)

    def _output(self, output: ServerToolOutput, arguments: dict[str, Any]) -> ToolOutput:
        return ToolOutput(
            content=output.error or output.text,
            tool_name=self._metadata.get_name(),
            raw_input=arguments,
            raw_output=output.raw,
            is_error=bool(output.error),
        )
