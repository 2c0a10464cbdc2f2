"""Tools run by llama-server (`--tools`, `--mcp-servers-config`), as LangChain tools. See the warning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llamacpp_server.integration import named_tools

if TYPE_CHECKING:
    from langchain_core.tools import StructuredTool

    from llamacpp_server import AsyncLlamaServerClient, LlamaServerClient, ServerTool, ServerToolOutput

__all__ = ["server_tools"]


def server_tools(
    client: LlamaServerClient, names: Sequence[str], *, async_client: AsyncLlamaServerClient | None = None
) -> list[StructuredTool]:
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
    return [_langchain_tool(client, async_client, tool) for tool in named_tools(client, names)]


def _langchain_tool(
    client: LlamaServerClient, async_client: AsyncLlamaServerClient | None, tool: ServerTool
) -> StructuredTool:
    from langchain_core.tools import StructuredTool  # only here: a program without tools does not pay for it

    def call(**arguments: Any) -> str:
        return _text(client.call_server_tool(tool.name, arguments))

    async def acall(**arguments: Any) -> str:
        assert async_client is not None  # noqa: S101 (for the type checker)
        return _text(await async_client.call_server_tool(tool.name, arguments))

    return StructuredTool(
        name=tool.name,
        description=tool.description,
        args_schema=dict(tool.parameters),
        func=call,
        coroutine=None if async_client is None else acall,
        handle_tool_error=True,
    )


def _text(output: ServerToolOutput) -> str:
    from langchain_core.tools import ToolException

    if output.error:
        raise ToolException(output.error)
    return output.text
