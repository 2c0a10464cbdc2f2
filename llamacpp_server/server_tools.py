"""Values of `/tools`: the server's built-in tools (`--tools`) and those of its MCP servers (`--mcp-servers-config`).

They read and write files and run commands on the server's machine, as the user of the server. See docs/security.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["ServerTool", "ServerToolChunk", "ServerToolOutput"]


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool that the server runs itself.

    Attributes:
        name: What to call it by.
        description: What it does, for a model.
        parameters: JSON schema of its arguments.
        kind: `server` for a built-in one, `mcp` for one of an MCP server.
        writes: Whether it changes something. The server says False of every MCP tool (b11549).
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
        """The tool as `tools` of a `ChatRequest` has it."""
        definition: Mapping[str, Any] = self.raw["definition"]
        return definition

    @classmethod
    def from_wire(cls, entry: Mapping[str, Any]) -> Self:
        """Reads an entry of `GET /tools`."""
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
        text: For a model: the tool's text, else its result as JSON.
        error: The tool's own words where it failed; "" where it worked.
        raw: The answer as the server sent it.
    """

    text: str
    error: str = ""
    raw: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class ServerToolChunk:
    """One event of a tool that is read while it runs.

    Attributes:
        text: Output to append.
        done: Whether the tool has ended.
        error: The tool's own words where it failed, in the last event.
    """

    text: str = ""
    done: bool = False
    error: str = ""

    @classmethod
    def from_wire(cls, event: Mapping[str, Any]) -> Self:
        """Reads an event of `POST /tools`."""
        return cls(str(event.get("chunk") or ""), bool(event.get("done")), str(event.get("error") or ""))
