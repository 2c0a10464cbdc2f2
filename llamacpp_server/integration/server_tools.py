"""Tools, for the adapters: those of a server that a program names, and strict ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._schemas import strict_tool
from ..errors import BadRequestError

if TYPE_CHECKING:
    from ..client import LlamaServerClient
    from ..server_tools import ServerTool

__all__ = ["named_tools", "strict_tool"]


def named_tools(client: LlamaServerClient, names: Sequence[str]) -> list[ServerTool]:
    """The tools of a server with these names, in this order.

    Raises:
        BadRequestError: For a name that the server does not have.
        NotSupportedError: If the server has no tools.
    """
    there = {tool.name: tool for tool in client.server_tools()}
    for name in names:
        if name not in there:
            raise BadRequestError(f"the server does not have the tool {name!r}", remedy=f"it has {', '.join(there)}")
    return [there[name] for name in names]
