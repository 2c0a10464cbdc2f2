"""LlamaServerEmbedding on a real embedder: the vectors, the requests, the cache, the events."""

import asyncio
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index_instrumentation import get_dispatcher

from llamacpp_server import BadVectorError, ContextOverflowError, LocalServer, NotSupportedError
from llamaindex_llamacpp_server import LlamaServerEmbedding
from tests.langchain.test_embeddings import TOO_LONG
from tests.media import picture
from tests.wiretap import Wiretap

PATH = "/v1/embeddings"


@pytest.fixture
def make(embedding_server: LocalServer, wire: Wiretap) -> Callable[..., LlamaServerEmbedding]:
    def made(**fields: Any) -> LlamaServerEmbedding:
        return LlamaServerEmbedding(base_url=embedding_server.base_url, **wire.clients, **fields)

    return made


def same(left: Any, right: Any) -> bool:
    """Equal but for what the server's arithmetic makes of computing texts together."""
    return all(math.dist(a, b) < 1e-3 for a, b in zip(left, right, strict=True))


def test_embedding_class() -> None:
    names = [cls.__name__ for cls in LlamaServerEmbedding.__mro__]
    assert BaseEmbedding.__name__ in names and MultiModalEmbedding.__name__ in names
    assert LlamaServerEmbedding.class_name() == "LlamaServerEmbedding"


class TestTexts:
    def test_texts_are_sent_as_they_are(self, make: Any, wire: Wiretap) -> None:
        texts = ["line\nbreak", " spaces ", "Ünïcode \u2028"]
        vectors = make().get_text_embedding_batch(texts)
        assert wire.bodies(PATH) == [{"input": texts, "encoding_format": "base64"}]
        assert [len(vector) for vector in vectors] == [64] * 3

    def test_newline_is_not_a_space(self, make: Any) -> None:
        assert math.dist(make().get_text_embedding("a\nb"), make().get_text_embedding("a b")) > 1e-3

    def test_batches_run_at_once_up_to_the_slots(self, make: Any, wire: Wiretap) -> None:
        texts = [f"{i} some words " * 20 for i in range(60)]
        vectors = make(request_batch_size=4).get_text_embedding_batch(texts)
        assert len(wire.bodies(PATH)) == 15 and wire.most_at_once[PATH] == 2
        assert same(vectors, [make().get_text_embedding(text) for text in texts])

    async def test_awaited_batches_do_not_exceed_the_slots(self, make: Any, wire: Wiretap) -> None:
        embedding = make(request_batch_size=3)
        texts = [f"{i} some words " * 20 for i in range(40)]
        vectors = await embedding.aget_text_embedding_batch(texts)
        assert wire.most_at_once[PATH] == 2
        assert same(vectors, embedding.get_text_embedding_batch(texts))

    def test_with_a_progress_bar(self, make: Any, wire: Wiretap, capsys: pytest.CaptureFixture[str]) -> None:
        texts = ["a", "b", "c"]
        embedding = make(embed_batch_size=2)
        assert same(
            embedding.get_text_embedding_batch(texts, show_progress=True),
            [embedding.get_text_embedding(t) for t in texts],
        )
        assert [body["input"] for body in wire.bodies(PATH)][:2] == [["a", "b"], ["c"]]
        assert "Generating embeddings" in capsys.readouterr().err

    async def test_rate_limiter_is_asked_for_each_of_the_cores_batches(self, make: Any) -> None:
        class Limiter(BaseRateLimiter):
            asked = 0

            def acquire(self, num_tokens: int = 0) -> None:
                Limiter.asked += 1

            async def async_acquire(self, num_tokens: int = 0) -> None:
                Limiter.asked += 10

        embedding = make(embed_batch_size=2, rate_limiter=Limiter())
        embedding.get_text_embedding_batch(["a", "b", "c"])
        await embedding.aget_text_embedding_batch(["a", "b", "c"])
        assert Limiter.asked == 22

    async def test_awaited_is_the_same(self, make: Any) -> None:
        embedding = make(query_instruction="q: ", text_instruction="d: ")
        assert same([await embedding.aget_query_embedding("a")], [embedding.get_query_embedding("a")])
        assert same([await embedding.aget_text_embedding("a")], [embedding.get_text_embedding("a")])

    def test_nodes_are_embedded_with_their_metadata(self, make: Any, wire: Wiretap) -> None:
        [node] = make()([TextNode(text="body", metadata={"title": "T"})])
        assert wire.bodies(PATH)[0]["input"] == ["title: T\n\nbody"] and len(node.embedding) == 64

    def test_dimensions_and_raw_numbers(self, make: Any) -> None:
        assert math.hypot(*make(dimensions=8).get_text_embedding("a")) == pytest.approx(1)
        assert len(make(dimensions=8).get_text_embedding("a")) == 8
        assert math.hypot(*make(normalize=False).get_text_embedding("a")) > 1.5


class TestInstructions:
    def test_each_side_has_its_own(self, make: Any, wire: Wiretap) -> None:
        embedding = make(query_instruction="ask: ", text_instruction="tell: ")
        embedding.get_query_embedding("x")
        embedding.get_text_embedding("x")
        assert [body["input"] for body in wire.bodies(PATH)] == [["ask: x"], ["tell: x"]]

    def test_preset(self, make: Any, wire: Wiretap) -> None:
        embedding = make(preset="embeddinggemma")
        embedding.get_query_embedding("x")
        embedding.get_text_embedding("x")
        assert [body["input"] for body in wire.bodies(PATH)] == [
            ["task: search result | query: x"],
            ["title: none | text: x"],
        ]


class TestCache:
    """From upstream's tests of embeddings with a cache, and what those do not look at."""

    def test_sync_methods_with_cache(self, make: Any, wire: Wiretap) -> None:
        embedding = make(embeddings_cache=SimpleKVStore())
        assert embedding.get_text_embedding("a") == embedding.get_text_embedding("a")
        embedding.get_text_embedding_batch(["a", "b"])
        assert [body["input"] for body in wire.bodies(PATH)] == [["a"], ["b"]]
        assert embedding.embeddings_cache.get(key="a", collection="embeddings") is not None

    async def test_async_methods_with_cache(self, make: Any, wire: Wiretap) -> None:
        embedding = make(embeddings_cache=SimpleKVStore())
        vector = await embedding.aget_text_embedding("a")
        assert (await embedding.aget_text_embedding_batch(["a", "b"]))[0] == vector
        assert [body["input"] for body in wire.bodies(PATH)] == [["a"], ["b"]]
        (kept,) = embedding.embeddings_cache.get(key="a", collection="embeddings").values()
        assert kept == vector

    def test_query_and_text_do_not_collide(self, make: Any, wire: Wiretap) -> None:
        embedding = make(embeddings_cache=SimpleKVStore(), query_instruction="ask: ")
        text, query = embedding.get_text_embedding("a"), embedding.get_query_embedding("a")
        assert math.dist(text, query) > 1e-3
        assert (embedding.get_text_embedding("a"), embedding.get_query_embedding("a")) == (text, query)
        assert len(wire.bodies(PATH)) == 2

    async def test_nor_do_they_awaited(self, make: Any, wire: Wiretap) -> None:
        embedding = make(embeddings_cache=SimpleKVStore(), preset="e5")
        query, text = await embedding.aget_query_embedding("a"), await embedding.aget_text_embedding("a")
        assert math.dist(text, query) > 1e-3
        assert await embedding.aget_query_embedding("a") == query == embedding.get_query_embedding("a")
        assert len(wire.bodies(PATH)) == 2

    def test_without_instructions_they_share(self, make: Any, wire: Wiretap) -> None:
        embedding = make(embeddings_cache=SimpleKVStore())
        assert embedding.get_text_embedding("a") == embedding.get_query_embedding("a")
        assert len(wire.bodies(PATH)) == 1

    def test_connections_are_shared_with_the_cache_in_place(self, embedding_server: LocalServer) -> None:
        embedding = LlamaServerEmbedding(
            base_url=embedding_server.base_url, embeddings_cache=SimpleKVStore(), query_instruction="ask: "
        )
        embedding.get_query_embedding("a")
        assert embedding._with_query_keys()._transport is embedding._transport is not None
        embedding.close()


class TestErrors:
    def test_too_long_text_is_named(self, make: Any) -> None:
        with pytest.raises(ContextOverflowError, match=r"text 300 \(2402 tokens, 512 fit\)") as caught:
            make().get_text_embedding_batch(["a"] * 300 + [TOO_LONG])
        assert caught.value.index == 300

    async def test_or_cut(self, make: Any, wire: Wiretap) -> None:
        await make(on_oversize="truncate").aget_text_embedding_batch(["a", TOO_LONG])
        assert wire.bodies(PATH)[-1]["input"] == ["a", TOO_LONG[:510]]

    def test_broken_vectors_are_refused(self, rerank_server: LocalServer) -> None:
        with pytest.raises(BadVectorError, match="--reranking"):
            for _ in range(20):
                LlamaServerEmbedding(base_url=rerank_server.base_url).get_text_embedding_batch(["a", "b", "c"])

    def test_server_that_does_not_embed(self, chat_server: LocalServer) -> None:
        with pytest.raises(NotSupportedError, match="--embeddings"):
            LlamaServerEmbedding(base_url=chat_server.base_url).get_query_embedding("a")

    def test_misspelt_field(self) -> None:
        with pytest.raises(ValueError, match="did you mean 'query_instruction'"):
            LlamaServerEmbedding(query_instuction="x")  # type: ignore[call-arg]


class TestImages:
    async def test_images(self, serve: Any, models_dir: Any, tmp_path: Any) -> None:
        server = serve(
            "random.gguf", embeddings=True, pooling="mean", parallel=2, ctx_size=4096,
            mmproj=models_dir / "mmproj-random.gguf",
        )  # fmt: skip
        embedding = LlamaServerEmbedding(base_url=server.base_url)
        paths = [tmp_path / "red.png", tmp_path / "blue.png"]
        for path, colour in zip(paths, [(255, 0, 0), (0, 0, 255)], strict=True):
            path.write_bytes(picture(colour))
        red, blue = embedding.get_image_embedding_batch([str(path) for path in paths])
        assert math.dist(red, blue) > 1e-3
        assert same([red, blue], await embedding.aget_image_embedding_batch([str(path) for path in paths]))
        assert same([red], [embedding.get_image_embedding(str(paths[0]))])
        await embedding.aclose()


class TestObservability:
    @pytest.mark.parametrize("many", [False, True])
    def test_callbacks_and_events_come_once(self, make: Any, many: bool) -> None:
        class Events(BaseEventHandler):
            def handle(self, event: Any, **kwargs: Any) -> None:
                if isinstance(event, EmbeddingStartEvent | EmbeddingEndEvent):
                    seen.append(event)

        seen: list[Any] = []
        handler, debug = Events(), LlamaDebugHandler(print_trace_on_end=False)
        dispatcher = get_dispatcher()
        dispatcher.add_event_handler(handler)
        try:
            embedding = make(
                model="m",
                api_key="s3cr3t",
                preset="nomic",
                callback_manager=CallbackManager([debug]),
                embeddings_cache=None if many else SimpleKVStore(),
            )
            vector = embedding.get_text_embedding_batch(["x"])[0] if many else embedding.get_query_embedding("x")
        finally:
            dispatcher.event_handlers.remove(handler)
        assert [type(event) for event in seen] == [EmbeddingStartEvent, EmbeddingEndEvent]
        assert seen[0].model_dict["model_name"] == "m" and "s3cr3t" not in str(seen[0])
        assert seen[1].chunks == ["x"] and seen[1].embeddings == [vector]
        [(_, ended)] = debug.get_event_pairs(CBEventType.EMBEDDING)
        assert ended.payload == {EventPayload.CHUNKS: ["x"], EventPayload.EMBEDDINGS: [vector]}


class TestLifetime:
    def test_serialized_and_back(self) -> None:
        embedding = LlamaServerEmbedding(base_url="http://u:pa55@h", model="m", api_key="s3cr3t", preset="bge")
        text = embedding.to_json()
        assert "s3cr3t" not in text and "pa55" not in text
        other = LlamaServerEmbedding.from_json(text)
        assert (other.model, other.model_name, other.preset) == ("m", "m", "bge")

    def test_model_name_is_a_name_for_model(self) -> None:
        assert LlamaServerEmbedding(model_name="m").model == "m"
        assert LlamaServerEmbedding().model is None

    def test_pickle_and_loops_after_use(self, embedding_server: LocalServer) -> None:
        embedding = LlamaServerEmbedding(base_url=embedding_server.base_url)
        expected = embedding.get_query_embedding("a")
        assert same([pickle.loads(pickle.dumps(embedding)).get_query_embedding("a")], [expected])
        for _ in range(3):
            assert same([asyncio.run(embedding.aget_query_embedding("a"))], [expected])
