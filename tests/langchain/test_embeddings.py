"""LlamaServerEmbeddings on a real embedder: the vectors, and what was sent for them."""

import asyncio
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core import exceptions as core
from langchain_core.vectorstores import InMemoryVectorStore

import llamacpp_server
from langchain_llamacpp_server import LlamaServerEmbeddings
from llamacpp_server import LocalServer
from llamacpp_server.prefixes import PREFIXES
from tests.media import picture, web_server
from tests.vector_stand_in import answering
from tests.wiretap import Wiretap

PATH = "/v1/embeddings"
TOO_LONG = "a b " * 600  # 2402 tokens, and 512 fit


@pytest.fixture
def make(embedding_server: LocalServer, wire: Wiretap) -> Callable[..., LlamaServerEmbeddings]:
    def made(**fields: Any) -> LlamaServerEmbeddings:
        return LlamaServerEmbeddings(base_url=embedding_server.base_url, **wire.clients, **fields)

    return made


def same(left: list[list[float]], right: list[list[float]]) -> bool:
    """Equal but for the last digits: the server's arithmetic depends on what it computes together."""
    return all(math.dist(a, b) < 1e-3 for a, b in zip(left, right, strict=True))


class TestTexts:
    def test_texts_are_sent_as_they_are(self, make: Any, wire: Wiretap) -> None:
        texts = ["line\nbreak", " spaces ", "Ünïcode \u2028 ☃", "<s>special</s>"]
        vectors = make().embed_documents(texts)
        assert wire.bodies(PATH) == [{"input": texts, "encoding_format": "base64"}]
        assert len(vectors) == 4 and all(len(vector) == 64 for vector in vectors)

    def test_order_survives_batches(self, make: Any, wire: Wiretap) -> None:
        texts = [f"number {i} " * (i % 5 + 1) for i in range(40)]
        one_by_one = [make().embed_query(text) for text in texts]
        wire.requests.clear()
        vectors = make(batch_size=3).embed_documents(texts)
        assert same(vectors, one_by_one)
        for place, vector in enumerate(vectors):
            assert min(range(40), key=lambda other: math.dist(one_by_one[other], vector)) == place
        assert sorted(len(body["input"]) for body in wire.bodies(PATH)) == [1] + [3] * 13

    def test_batches_run_at_once_up_to_the_slots(self, make: Any, wire: Wiretap) -> None:
        make(batch_size=4).embed_documents(["some words " * 30] * 40)
        assert wire.most_at_once[PATH] == 2

    async def test_awaited_batches_run_at_once_up_to_the_slots(self, make: Any, wire: Wiretap) -> None:
        embeddings = make(batch_size=4)
        texts = [f"{i} some words " * 30 for i in range(40)]
        vectors = await embeddings.aembed_documents(texts)
        assert wire.most_at_once[PATH] == 2
        assert same(vectors, embeddings.embed_documents(texts))

    async def test_awaited_is_the_same(self, make: Any) -> None:
        embeddings = make(query_prefix="q: ", document_prefix="d: ")
        assert same([await embeddings.aembed_query("a")], [embeddings.embed_query("a")])
        assert same(await embeddings.aembed_documents(["a", "b"]), embeddings.embed_documents(["a", "b"]))

    def test_nothing_gives_nothing(self, make: Any, wire: Wiretap) -> None:
        assert make().embed_documents([]) == []
        assert not wire.requests

    def test_one_text_is_not_a_list(self, make: Any) -> None:
        with pytest.raises(core.ModelInvalidRequestError, match="must be a list"):
            make().embed_documents("text")

    def test_chunk_size_of_a_call(self, make: Any, wire: Wiretap) -> None:
        make().embed_documents(["a", "b", "c"], chunk_size=2)
        assert sorted(len(body["input"]) for body in wire.bodies(PATH)) == [1, 2]

    def test_fields_of_a_call_and_of_the_model(self, make: Any, wire: Wiretap) -> None:
        make(extra_body={"user": "me"}, model="m").embed_query("a", embd_normalize=1)
        assert wire.bodies(PATH)[0] == {
            "input": ["a"], "encoding_format": "base64", "user": "me", "embd_normalize": 1, "model": "m"
        }  # fmt: skip

    async def test_an_unknown_argument_is_refused_before_anything_is_sent(self, make: Any, wire: Wiretap) -> None:
        embeddings = make()
        for call in (embeddings.embed_query, lambda text, **given: embeddings.embed_documents([text], **given)):
            with pytest.raises(core.ModelInvalidRequestError, match=r"unknown argument 'dimension'.*'dimensions'"):
                call("a", dimension=4)
        with pytest.raises(core.ModelInvalidRequestError, match="unknown argument 'dimension'"):
            await embeddings.aembed_query("a", dimension=4)
        with pytest.raises(core.ModelInvalidRequestError, match="unknown argument 'dimension'"):
            await embeddings.aembed_documents(["a"], dimension=4)
        assert not wire.requests

    def test_further_fields_and_limits_of_a_call(self, make: Any, wire: Wiretap) -> None:
        make(extra_body={"user": "me"}).embed_query("a", extra_body={"user": "you"}, timeout=30)
        assert wire.bodies(PATH)[0]["user"] == "you"
        assert "timeout" not in wire.bodies(PATH)[0]


class TestPrefixes:
    def test_query_and_document_have_their_own(self, make: Any, wire: Wiretap) -> None:
        embeddings = make(query_prefix="ask: ", document_prefix="tell: ")
        embeddings.embed_query("x")
        embeddings.embed_documents(["x", "y"])
        assert [body["input"] for body in wire.bodies(PATH)] == [["ask: x"], ["tell: x", "tell: y"]]

    @pytest.mark.parametrize("family", list(PREFIXES))
    def test_preset(self, make: Any, wire: Wiretap, family: Any) -> None:
        embeddings = make(preset=family)
        embeddings.embed_query("x")
        embeddings.embed_documents(["x"])
        query, document = PREFIXES[family]
        assert [body["input"] for body in wire.bodies(PATH)] == [[query + "x"], [document + "x"]]

    def test_given_prefix_wins_over_the_preset(self, make: Any, wire: Wiretap) -> None:
        make(preset="nomic", query_prefix="").embed_query("x")
        assert wire.bodies(PATH)[0]["input"] == ["x"]

    def test_known_model_without_prefix_is_pointed_out(
        self, make: Any, caplog: pytest.LogCaptureFixture, fresh_notices: set[str]
    ) -> None:
        make(model="nomic-embed-text-v1.5").embed_query("x")
        assert "preset='nomic'" in caplog.text
        caplog.clear()
        fresh_notices.clear()
        make(model="nomic-embed-text-v1.5", preset="none").embed_query("x")
        make().embed_query("x")
        assert not caplog.records


class TestVectors:
    def test_length_is_one(self, make: Any) -> None:
        assert math.hypot(*make().embed_query("a")) == pytest.approx(1, abs=1e-6)

    def test_raw_numbers(self, make: Any) -> None:
        raw, unit = make(normalize=False).embed_query("a"), make().embed_query("a")
        length = math.hypot(*raw)
        assert length > 1.5
        assert [number / length for number in raw] == pytest.approx(unit, abs=1e-6)

    def test_dimensions(self, make: Any, wire: Wiretap) -> None:
        every, head = make().embed_query("a"), make(dimensions=8).embed_query("a")
        assert len(head) == 8 and math.hypot(*head) == pytest.approx(1)
        assert head == pytest.approx([number / math.hypot(*every[:8]) for number in every[:8]], abs=1e-6)
        assert "dimensions" not in wire.bodies(PATH)[-1]

    def test_too_many_dimensions(self, make: Any) -> None:
        with pytest.raises(core.ModelInvalidRequestError, match="vectors have 64"):
            make(dimensions=65).embed_query("a")

    def test_broken_vectors_are_refused_by_index(self, rerank_server: LocalServer) -> None:
        """A server with `--reranking` answers here too, with what happens to be in its memory."""
        embeddings = LlamaServerEmbeddings(base_url=rerank_server.base_url)
        with pytest.raises(llamacpp_server.BadVectorError, match=r"the vector of text [0-9]") as caught:
            for _ in range(20):
                embeddings.embed_documents(["a", "b", "c", "d"])
        assert isinstance(caught.value, core.ModelError)
        assert caught.value.index in range(4) and "--reranking" in str(caught.value)


class TestOddReplies:
    """What only other servers and broken models say, on a stand-in."""

    @pytest.mark.parametrize(
        ("vectors", "words"),
        [
            ([[0.6, 0.8], [None, 1.0]], "text 1 contains null"),
            ([[0.6, 0.8], [0.0, 0.0]], "text 1 is all zeros"),
            ([[0.6, 0.8], [1.0]], "text 1 has 1 numbers instead of 2"),
            (["AACAPwAAAAA=", "AADAfwAAgD8="], "text 1 contains nan"),
        ],
    )
    def test_vector_that_is_none_is_named(self, vectors: Any, words: str) -> None:
        data = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        with answering({"data": data}) as url, pytest.raises(llamacpp_server.BadVectorError, match=words) as caught:
            LlamaServerEmbeddings(base_url=url).embed_documents(["a", "b"])
        assert caught.value.index == 1

    def test_order_is_that_of_the_index_and_length_is_made_one(self) -> None:
        data = [{"index": 1, "embedding": [3.0, 4.0]}, {"index": 0, "embedding": "AACAPwAAAAA="}]
        with answering({"data": data}) as url:
            found = LlamaServerEmbeddings(base_url=url).embed_documents(["a", "b"])
            raw = LlamaServerEmbeddings(base_url=url, normalize=False).embed_documents(["a", "b"])
        assert found == [[1.0, 0.0], [0.6, 0.8]] and raw == [[1.0, 0.0], [3.0, 4.0]]

    @pytest.mark.parametrize("data", [None, [{"index": 0}], [{"index": 0, "embedding": "not base64!"}], [{}]])
    def test_reply_of_another_api(self, data: Any) -> None:
        with answering({"data": data}) as url, pytest.raises(llamacpp_server.MalformedReplyError):
            LlamaServerEmbeddings(base_url=url).embed_query("a")


class TestOversize:
    def test_error_names_the_text(self, make: Any, wire: Wiretap) -> None:
        texts = ["short"] * 9 + [TOO_LONG]
        with pytest.raises(core.ContextOverflowError, match=r"text 9 \(2402 tokens, 512 fit\)") as caught:
            make(batch_size=4).embed_documents(texts)
        error = caught.value
        assert isinstance(error, llamacpp_server.ContextOverflowError)
        assert (error.index, error.n_prompt_tokens, error.n_ctx) == (9, 2402, 512)
        assert "on_oversize='truncate'" in str(error)
        assert sum(TOO_LONG in body["input"] for body in wire.bodies(PATH)) == 1  # not tried again

    def test_truncate_uses_what_fits(self, make: Any, wire: Wiretap) -> None:
        embeddings = make(on_oversize="truncate")
        texts = ["short", TOO_LONG, "ünï" * 500]
        vectors = embeddings.embed_documents(texts)
        sent = wire.bodies(PATH)[-1]["input"]
        assert sent[0] == "short" and all(full.startswith(cut) for full, cut in zip(texts, sent, strict=True))
        assert len(sent[1]) == 510  # and the two tokens that the model puts around
        assert len(sent[2].encode()) in (509, 510)
        assert same(vectors, make().embed_documents(sent))

    async def test_awaited_truncate(self, make: Any) -> None:
        embeddings = make(on_oversize="truncate", batch_size=1)
        texts = [TOO_LONG, "short", TOO_LONG]
        assert same(await embeddings.aembed_documents(texts), embeddings.embed_documents(texts))

    def test_prefix_counts_and_stays(self, make: Any, wire: Wiretap) -> None:
        make(on_oversize="truncate", document_prefix="tell: ").embed_documents([TOO_LONG])
        assert wire.bodies(PATH)[-1]["input"] == [("tell: " + TOO_LONG)[:510]]

    def test_prefix_that_fills_all(self, make: Any) -> None:
        with pytest.raises(core.ContextOverflowError, match="not even one character"):
            make(on_oversize="truncate", document_prefix=TOO_LONG).embed_documents(["x"])


class TestImages:
    @pytest.fixture
    def eyes(self, serve: Any, models_dir: Any) -> LlamaServerEmbeddings:
        server = serve(
            "random.gguf", embeddings=True, pooling="mean", parallel=2, ctx_size=4096,
            mmproj=models_dir / "mmproj-random.gguf",
        )  # fmt: skip
        return LlamaServerEmbeddings(base_url=server.base_url)

    def test_images_differ_and_keep_their_order(self, eyes: LlamaServerEmbeddings, tmp_path: Any) -> None:
        red, blue = picture((255, 0, 0)), picture((0, 0, 255))
        (tmp_path / "blue.png").write_bytes(blue)
        vectors = eyes.embed_image([red, str(tmp_path / "blue.png"), red])
        assert math.dist(vectors[0], vectors[1]) > 1e-3
        assert same([vectors[0]], [vectors[2]]) and same([vectors[1]], eyes.embed_image([blue]))

    async def test_awaited(self, eyes: LlamaServerEmbeddings) -> None:
        assert same(await eyes.aembed_image([picture((1, 2, 3))]), eyes.embed_image([picture((1, 2, 3))]))
        await eyes.aclose()

    def test_addresses_are_fetched_only_where_the_caller_says_so(self, eyes: LlamaServerEmbeddings) -> None:
        with web_server() as web:
            web.files["/red.png"] = ("image/png", picture((255, 0, 0)))
            with pytest.raises(core.ModelInvalidRequestError, match="fetch_urls=True"):
                eyes.embed_image([f"{web.url}/red.png"])
            assert web.asked == []
            eyes.fetch_urls = ["127.0.0.1"]
            assert same(eyes.embed_image([f"{web.url}/red.png"]), eyes.embed_image([picture((255, 0, 0))]))

    def test_server_without_eyes(self, make: Any) -> None:
        with pytest.raises(llamacpp_server.NotSupportedError, match="--mmproj"):
            make().embed_image([picture((1, 2, 3))])


class TestErrors:
    def test_server_that_does_not_embed(self, chat_server: LocalServer) -> None:
        with pytest.raises(llamacpp_server.NotSupportedError, match="--embeddings") as caught:
            LlamaServerEmbeddings(base_url=chat_server.base_url).embed_query("a")
        assert isinstance(caught.value, core.ModelInvalidRequestError)

    def test_no_server(self) -> None:
        with pytest.raises(core.ModelConnectionError, match=r"http://127\.0\.0\.1:9/v1/embeddings"):
            LlamaServerEmbeddings(base_url="http://127.0.0.1:9", max_retries=0).embed_documents(["a"] * 200)


class TestLifetime:
    def test_constructing_touches_no_network(self) -> None:
        LlamaServerEmbeddings(base_url="http://127.0.0.1:9")

    def test_pickle_and_copies(self, embedding_server: LocalServer) -> None:
        embeddings = LlamaServerEmbeddings(base_url=embedding_server.base_url, dimensions=8, api_key="secret")
        expected = embeddings.embed_query("a")
        for other in (pickle.loads(pickle.dumps(embeddings)), embeddings.model_copy(deep=True)):
            assert other.embed_query("a") == pytest.approx(expected, abs=1e-6)
        assert "secret" not in repr(embeddings) + embeddings.model_dump_json()

    def test_one_model_in_several_event_loops(self, embedding_server: LocalServer) -> None:
        embeddings = LlamaServerEmbeddings(base_url=embedding_server.base_url)
        assert all(len(asyncio.run(embeddings.aembed_query("a"))) == 64 for _ in range(3))


def test_vector_store_finds_the_nearest(make: Any) -> None:
    store = InMemoryVectorStore(make())
    texts = ["cats and dogs", "1234567890", "ÄÖÜ äöü ß"]
    store.add_texts(texts)
    assert [store.similarity_search(text, k=1)[0].page_content for text in texts] == texts


def test_dimensions_of_a_call(embedding_server: LocalServer) -> None:
    embeddings = LlamaServerEmbeddings(base_url=embedding_server.base_url, query_prefix="", document_prefix="")
    assert len(embeddings.embed_query("a", dimensions=4)) == 4
    assert [len(vector) for vector in embeddings.embed_documents(["a", "b"], dimensions=4)] == [4, 4]
    assert len(embeddings.embed_query("a")) > 4
