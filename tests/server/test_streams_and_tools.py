"""Resumable streams, tools that the server runs, vectors of tokens, and queries of routers and slots."""

import shutil

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    LocalServer,
    NotFoundError,
    NotSupportedError,
    ServerBusyError,
    ServerFaultError,
    fold_chat,
    late_interaction,
)

HELLO = ChatRequest(messages=[{"role": "user", "content": "Hello"}])


# -- resumable streams


def resumable(client, conversation_id):
    """A stream, from either shell."""
    return client.client.stream_resumable_chat(HELLO, conversation_id)


def test_a_reply_can_be_read_again_after_it_was_read(connect, thinker):
    client = connect(thinker)
    client.start = lambda name, request: resumable(client, request)
    first = fold_chat(client.read("stream_resumable_chat", "again"))
    del client.start
    again = fold_chat(client.read("resume_chat", "again"))
    assert (again.content, again.reasoning_content) == ("Hello there.", first.reasoning_content)
    (state,) = client.find_streams(["again", "unknown"])
    assert state.is_done
    assert state.total_bytes > 100


def test_a_resumable_reply_continues_after_its_reader_disconnects(connect, thinker):
    client = connect(thinker)
    stream = resumable(client, "away")
    assert client.next(stream) is not None
    client.leave(stream)
    assert fold_chat(client.read("resume_chat", "away")).content == "Hello there."


def test_a_stopped_stream_frees_its_slot_and_is_forgotten(connect, slow_server, idle):
    client = connect(slow_server)
    stream = resumable(client, "stopped")
    client.next(stream)
    client.leave(stream)
    (state,) = client.find_streams(["stopped"])
    assert not state.is_done
    client.stop_stream("stopped")
    idle(slow_server)
    with pytest.raises(NotFoundError, match="send the chat again"):
        client.read("resume_chat", "stopped")


def test_stopping_what_does_not_run_does_nothing(connect, thinker):
    assert connect(thinker).stop_stream("never-begun") is None


@pytest.mark.parametrize("name", ["", "a\r\nX-Evil: 1", "größe"])
def test_an_id_that_no_header_can_hold_is_refused(connect, thinker, name):
    with pytest.raises(BadRequestError, match="ASCII"):
        connect(thinker).stop_stream(name)


# -- tools of the server


@pytest.mark.binary
def test_the_tools_of_a_server_are_listed_with_their_schemas(connect, tool_server):
    tools = {tool.name: tool for tool in connect(tool_server).server_tools()}
    assert tools["read_file"].parameters["required"] == ["path"]
    assert (tools["read_file"].writes, tools["write_file"].writes) == (False, True)
    assert tools["read_file"].definition["function"]["name"] == "read_file"


@pytest.mark.binary
def test_a_tool_runs_on_the_servers_machine(connect, tool_server, tmp_path):
    client, path = connect(tool_server), tmp_path / "note.txt"
    assert client.call_server_tool("write_file", {"path": str(path), "content": "hi"}).error == ""
    assert path.read_text() == "hi"
    assert client.call_server_tool("read_file", {"path": str(path)}).text.strip() == "hi"
    assert str(tmp_path) in client.call_server_tool("exec_shell_command", {"command": "pwd"}, cwd=str(tmp_path)).text


@pytest.mark.binary
def test_a_tool_that_fails_says_why(connect, tool_server, tmp_path):
    client = connect(tool_server)
    assert "missing" in client.call_server_tool("read_file", {"path": str(tmp_path / "missing")}).error
    with pytest.raises(BadRequestError, match="path"):
        client.call_server_tool("read_file", {})
    with pytest.raises(NotFoundError):
        client.call_server_tool("no_such_tool", {})


@pytest.mark.binary
def test_a_tool_is_read_while_it_runs(connect, tool_server):
    client = connect(tool_server)
    client.start = lambda name, command: client.client.stream_server_tool("exec_shell_command", {"command": command})
    chunks = client.read("", "echo one; echo two")
    assert "one\ntwo" in "".join(chunk.text for chunk in chunks)
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_server_without_tools_names_the_flag(connect, chat_server):
    with pytest.raises(NotSupportedError, match="--tools"):
        connect(chat_server).server_tools()


# -- vectors of tokens


def test_each_token_of_a_text_has_a_vector(connect, serve):
    client = connect(serve("encoder.gguf", embeddings=True, pooling="none", parallel=2, ctx_size=1024))
    texts = ["Hello world", "Hi"]
    found = client.embed_tokens(texts)
    for text, vectors in zip(texts, found, strict=True):
        assert len(vectors) == len(client.tokenize(text, add_special=True))
        assert {len(vector) for vector in vectors} == {64}
    assert late_interaction(found[0], found[0]) == pytest.approx(1.0)
    assert late_interaction(found[1], found[0]) < 1.0
    with pytest.raises(BadRequestError):
        late_interaction([], found[0])


def test_a_server_that_pools_gives_one_vector_for_each_text(connect, embedding_server):
    found = connect(embedding_server).embed_tokens(["Hello world", "Hi"])
    assert [len(vectors) for vectors in found] == [1, 1]
    assert connect(embedding_server).embed_tokens([]) == []


def test_a_text_in_place_of_a_list_is_refused(connect, embedding_server):
    with pytest.raises(BadRequestError, match="list"):
        connect(embedding_server).embed_tokens("Hello")


# -- queries


def test_a_busy_server_says_so_when_a_free_slot_is_asked_for(connect, serve, idle):
    server = serve("random.gguf", parallel=1, ctx_size=65536)
    idle(server)  # of the stream that the same test left with the other client
    client = connect(server)
    assert len(client.slots(fail_when_busy=True)) == 1
    endless = ChatRequest(messages=HELLO.messages, params={"ignore_eos": True, "max_tokens": 20000})
    stream = client.start("stream_chat", endless)
    try:
        client.next(stream)
        with pytest.raises(ServerBusyError, match="no slot"):
            client.slots(fail_when_busy=True)
    finally:
        client.leave(stream)


@pytest.mark.binary
def test_a_router_lists_a_model_that_was_added_once_it_reads_its_directory_again(connect, models_dir, tmp_path):
    shutil.copy(models_dir / "random.gguf", tmp_path / "one.gguf")
    with LocalServer(models_dir=tmp_path, ctx_size=512, parallel=1, threads=1) as server:
        client = connect(server)
        shutil.copy(models_dir / "random.gguf", tmp_path / "two.gguf")
        assert {card.id for card in client.models()} == {"one"}
        assert {card.id for card in client.models(reload=True)} == {"one", "two"}
        with pytest.raises(ServerFaultError, match="not removable"):
            client.delete_model("one")
        assert (tmp_path / "one.gguf").exists()
