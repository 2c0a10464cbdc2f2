"""Answers of embedding and reranking servers that name one text twice, or no text at all."""

import pytest

from llamacpp_server import MalformedReplyError
from tests.wire.scripted_server import ScriptedServer, reply


@pytest.mark.parametrize("indices", [(0, 0), (1, 1)])
def test_two_vectors_of_one_text_are_refused(connect, indices):
    data = [{"index": at, "embedding": [1.0, 0.0]} for at in indices]
    twice = pytest.raises(MalformedReplyError, match=f"index {indices[0]} twice")
    with ScriptedServer(reply({"data": data})) as server, twice:
        connect(server.url).embed(["a", "b"])


@pytest.mark.parametrize("index", [-1, "one", 0.5, None])
def test_a_vector_of_no_position_is_refused(connect, index):
    data = [{"index": 0, "embedding": [1.0, 0.0]}, {"index": index, "embedding": [0.0, 1.0]}]
    words = "index -1, which is not a position" if index == -1 else "unexpected response"
    with ScriptedServer(reply({"data": data})) as server, pytest.raises(MalformedReplyError, match=words):
        connect(server.url).embed(["a", "b"])


def test_vectors_with_positions_as_texts_keep_their_order(connect):
    data = [{"index": str(at), "embedding": [float(at)]} for at in range(11)]
    with ScriptedServer(reply({"data": data})) as server:
        found = connect(server.url).embed([str(at) for at in range(11)])
    assert [vector[0] for vector in found.vectors] == [float(at) for at in range(11)]


@pytest.mark.parametrize("index", [2, -1])
def test_a_rank_of_a_document_that_was_not_sent_is_refused(connect, index):
    results = [{"index": 0, "relevance_score": 1.0}, {"index": index, "relevance_score": 2.0}]
    refused = pytest.raises(MalformedReplyError, match=f"index {index}, and 2 documents were sent")
    with ScriptedServer(reply({"results": results})) as server, refused:
        connect(server.url).rerank("q", ["a", "b"])


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({"index": 0}, "results of the response must be a list, not dict"),
        ([{"index": 0, "relevance_score": 1.0}, {"index": 0, "relevance_score": 2.0}], "index 0 twice"),
    ],
)
def test_ranks_of_no_list_or_of_one_document_twice_are_refused(connect, results, words):
    with ScriptedServer(reply({"results": results})) as server, pytest.raises(MalformedReplyError, match=words):
        connect(server.url).rerank("q", ["a", "b"])


def test_a_null_vector_is_named(connect):
    data = [{"index": 0, "embedding": [1.0, 0.0]}, {"index": 1, "embedding": None}]
    null = pytest.raises(MalformedReplyError, match="the vector at index 1 of the response is null")
    with ScriptedServer(reply({"data": data})) as server, null:
        connect(server.url).embed(["a", "b"])
