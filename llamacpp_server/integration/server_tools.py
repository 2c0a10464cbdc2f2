"""The tools of a server that a program names, for the adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import BadRequestError

if TYPE_CHECKING:
    from ..client import LlamaServerClient
    from ..server_tools import ServerTool

__all__ = ["named_tools"]


def named_tools(client: LlamaServerClient, names: Sequence[str]) -> list[ServerTool]:
    """The tools of a server with these names, in this order.

    Raises:
        BadRequestError: For a name that the server does not have.
        NotSupportedError: When the server runs no tools.
    """
    there = {tool.name: tool for tool in client.server_tools()}
    for name in names:
        if name not in there:
            raise BadRequestError(f"the server does not have the tool {name!r}", remedy=f"it has {', '.join(there)}")
    return [there[name] for name in names]
