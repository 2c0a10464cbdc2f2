"""What docs/scaling.md shows, with a real HAProxy and a real Dask cluster on this machine: `make test-scaling`."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings
from llamacpp_server import LlamaServerClient, LocalServer
from tests.wire.scripted_server import free_port

pytestmark = pytest.mark.scaling
CONFIGURATION = Path(__file__).parents[2] / "docs" / "haproxy.cfg"


@pytest.fixture
def pair(models_dir: Path) -> Iterator[list[LocalServer]]:
    options: dict[str, Any] = {"parallel": 2, "ctx_size": 4096, "threads": 1, "warmup": False}
    servers = [LocalServer(models_dir / "random.gguf", **options).start() for _ in range(2)]
    yield servers
    for server in servers:
        server.stop()


@pytest.fixture
def front(pair: list[LocalServer], tmp_path: Path) -> Iterator[str]:
    """The address of HAProxy, with the configuration of the docs in front of the pair."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    port = free_port()
    real = dict(zip(("8081", "8082"), (server.base_url.rpartition(":")[2] for server in pair), strict=True))
    for written, taken in {"8080": port, **real}.items():
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{taken}")
    path = tmp_path / "haproxy.cfg"
    path.write_text(text.replace("inter 2s", "inter 100ms").replace("maxconn 4", "maxconn 2"), encoding="utf-8")
    process = subprocess.Popen(["haproxy", "-f", str(path), "-db"])
    base_url = f"http://127.0.0.1:{port}"
    LlamaServerClient(base_url, wait_while_refused=True, load_timeout=10).wait_until_ready()
    yield base_url
    process.terminate()
    process.wait(5)


def model(base_url: str, **fields: Any) -> ChatLlamaServer:
    return ChatLlamaServer(base_url=base_url, temperature=0, max_tokens=4, max_concurrency=4, **fields)


def test_a_session_stays_where_its_prompt_is(front: str, pair: list[LocalServer]) -> None:
    def tokens_read(base_url: str, name: str) -> int:
        reply = model(base_url).invoke(f"{name} " + "word " * 200, extra_headers={"X-Session": name})
        read: int = reply.response_metadata["timings"]["prompt_n"]
        return read

    homes = set()
    for name in ("ada", "bob", "eve", "kim", "leo", "mia"):
        assert tokens_read(front, name) > 500
        assert tokens_read(front, name) < 10, "the prompt was in the cache of that server"
        known = [tokens_read(server.base_url, name) < 10 for server in pair]
        assert sum(known) == 1
        homes.add(known.index(True))
    assert homes == {0, 1}, "the sessions are spread over both"


def test_a_dead_server_is_left_out(front: str, pair: list[LocalServer]) -> None:
    llm = model(front, max_retries=2)
    pair[0].stop()
    time.sleep(0.5)
    replies = llm.batch([f"hello {n}" for n in range(12)])
    assert all(reply.usage_metadata["output_tokens"] for reply in replies)


def test_leaving_a_stream_frees_the_slot_behind_the_proxy(
    front: str, pair: list[LocalServer], idle: Callable[[LocalServer], None]
) -> None:
    llm = model(front).model_copy(update={"max_tokens": 1500, "ignore_eos": True})

    async def leave() -> int:
        stream = llm.astream("hello")
        await anext(stream)
        busy = sum(slot.is_processing for server in pair for slot in server.client().slots())
        await stream.aclose()  # type: ignore[attr-defined]
        return busy

    assert asyncio.run(leave()) == 1
    for server in pair:
        idle(server)


def test_dask_embeds_a_corpus(embedding_server: LocalServer) -> None:
    import dask.bag
    from distributed import Client, LocalCluster

    embeddings = LlamaServerEmbeddings(base_url=embedding_server.base_url, batch_size=16)
    corpus = [f"text number {n}" for n in range(200)]

    def embed(texts: Any) -> list[tuple[str, list[float]]]:
        texts = list(texts)
        return list(zip(texts, embeddings.embed_documents(texts), strict=True))

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        vectors = dict(dask.bag.from_sequence(corpus, partition_size=40).map_partitions(embed).compute())
    assert list(vectors) == corpus
    assert vectors[corpus[7]] == pytest.approx(embeddings.embed_query(corpus[7]), abs=1e-3)


def answer(part: int, server: str, directory: Path) -> int:
    with LlamaServerClient(server) as client:
        return client.batch_file(directory / f"in-{part}.jsonl", directory / f"out-{part}.jsonl").answered


def test_a_batch_file_in_parts_is_answered_on_a_cluster(pair: list[LocalServer], tmp_path: Path) -> None:
    from distributed import Client, LocalCluster

    for part in range(4):
        lines = [f'{{"id": "{part}-{n}", "prompt": "Once {n}", "max_tokens": 4}}\n' for n in range(10)]
        (tmp_path / f"in-{part}.jsonl").write_text("".join(lines))
    servers = [server.base_url for server in pair] * 2
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        assert client.gather(client.map(answer, range(4), servers, [tmp_path] * 4)) == [10] * 4
    text = "".join((tmp_path / f"out-{part}.jsonl").read_text() for part in range(4))
    assert all(f'"custom_id": "{part}-{n}"' in text for part in range(4) for n in range(10))
