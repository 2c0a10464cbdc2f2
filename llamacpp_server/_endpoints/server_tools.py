"""`/tools`: tools that the server runs, built in or through MCP (b11549)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from pydantic_core import to_json

from .._replies import (
    EventDecoder,
)
from ..errors import BadRequestError
from ..server_tools import ServerTool, ServerToolChunk, ServerToolOutput
from ..settings import ServerSettings
from ..transport import (
    Call,
    Program,
    ask,
    stream_call,
)
from .inputs import check_mapping, check_text


def server_tools(settings: ServerSettings) -> Program[list[ServerTool]]:
    """`GET /tools`."""
    call = Call(method="GET", path="/tools")
    return (yield from ask(settings, call, lambda answer: [ServerTool.from_wire(entry) for entry in answer]))


def call_server_tool(
    settings: ServerSettings, name: str, arguments: Mapping[str, Any], cwd: str | None
) -> Program[ServerToolOutput]:
    """`POST /tools`, without retries: a tool whose answer was lost may have run."""
    once = settings.replace(max_retries=0)
    return (yield from ask(once, _call(name, arguments, cwd), _output))


def stream_server_tool(
    settings: ServerSettings, name: str, arguments: Mapping[str, Any], cwd: str | None
) -> Program[None]:
    """`POST /tools` with `stream`; closing it ends the tool."""
    decoder = partial(EventDecoder, ServerToolChunk.from_wire, lambda chunk: chunk.done)
    return stream_call(settings.replace(max_retries=0), _call(name, arguments, cwd, stream=True), decoder)


def _call(name: str, arguments: Mapping[str, Any], cwd: str | None, *, stream: bool = False) -> Call:
    check_text(name, "name")
    check_mapping(arguments, "arguments")
    if cwd is not None:
        check_text(cwd, "cwd")
        if not (cwd.isascii() and cwd.isprintable()):
            raise BadRequestError("cwd must be of printable ASCII characters, as it is sent in a header")
    body = {"tool": name, "params": dict(arguments), **({"stream": True} if stream else {})}
    return Call(method="POST", path="/tools", body=body, headers={} if cwd is None else {"X-Tool-Cwd": cwd})


def _output(answer: Any) -> ServerToolOutput:
    if not isinstance(answer, Mapping):
        return ServerToolOutput(_text(answer), raw=answer)
    text = answer.get("plain_text_response")
    return ServerToolOutput(_text(answer) if text is None else str(text), str(answer.get("error") or ""), answer)


def _text(answer: Any) -> str:
    return answer if isinstance(answer, str) else to_json(answer).decode()
