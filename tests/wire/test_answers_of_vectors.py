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
