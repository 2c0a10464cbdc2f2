"""Values of `/tools`: the server's built-in tools (`--tools`) and those of its MCP servers (`--mcp-servers-config`).

These tools read and write files and run commands on the server's machine, as the server's user. See docs/security.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["ServerTool", "ServerToolChunk", "ServerToolOutput"]


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool that the server runs.

    Attributes:
        name: Name of the tool.
        description: Description for the model.
        parameters: JSON schema of its arguments.
        kind: `server` for a built-in tool, `mcp` for a tool of an MCP server.
        writes: Whether it has side effects. The server reports False for every MCP tool (b11549).
        raw: The entry as the server sent it.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""
    writes: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def definition(self) -> Mapping[str, Any]:
        """The tool in the format of `ChatRequest.tools`."""
        definition: Mapping[str, Any] = self.raw["definition"]
        return definition

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> Self:
        """Read an entry of `GET /tools`."""
        function = entry["definition"]["function"]
        return cls(
            name=entry["tool"],
            description=function.get("description") or "",
            parameters=function.get("parameters") or {},
            kind=entry.get("type") or "",
            writes=bool((entry.get("permissions") or {}).get("write")),
            raw=entry,
        )


@dataclass(frozen=True, slots=True)
class ServerToolOutput:
    """The output of a tool of the server.

    Attributes:
        text: The output for a model: the tool's text, else its result as JSON.
        error: The tool's error message; "" if it succeeded.
        raw: The response as the server sent it.
    """

    text: str
    error: str = ""
    raw: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ServerToolChunk:
    """One event of a running tool.

    Attributes:
        text: Output to append.
        done: Whether the tool has ended.
        error: The tool's error message, in the last event; "" if it succeeded.
    """

    text: str = ""
    done: bool = False
    error: str = ""

    @classmethod
    def from_wire(cls, event: Mapping[str, Any]) -> Self:
        """Read an event of `POST /tools`."""
        return cls(str(event.get("chunk") or ""), bool(event.get("done")), str(event.get("error") or ""))
