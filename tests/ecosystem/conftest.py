"""Public tools with our classes, in an environment of their own: `make test-ecosystem`.

`@uses("package", "what is done with it")` names the tool of a test; with `--ecosystem-page` the run writes
docs/ecosystem.md. Where the environment lacks the tools, as that of the daily tests does, nothing here is collected.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerDecisions, LlamaServerEmbeddings
from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding
from tests.models import build_scripted
from tests.models.table_model import build_table

PAGE = Path(__file__).parents[2] / "docs" / "ecosystem.md"
HEAD = """---
hide: [tags]
tags: [deepagents, MCP, Chroma, FAISS, LanceDB, ragas, deepeval, langfuse, supervisor, swarm]
---

# Tested with

Public tools that were tested with this package on a real llama-server. `make test-ecosystem` runs them in a separate
environment, with the newest compatible versions, and generates this page. The model's replies are scripted
(see [Test your application](howto/test-your-app.md)): the tests check that tool, class and server work together, not
the quality of a model.

| tool | version | test | result |
|---|---|---|---|
"""

collect_ignore_glob = [] if find_spec("deepagents") else ["test_*.py"]
_CONTEXT = 65536
_rows: dict[tuple[str, str], str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ecosystem-page", action="store_true", help="write docs/ecosystem.md")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ecosystem)
            item.add_marker(pytest.mark.filterwarnings("ignore"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    marker = item.get_closest_marker("uses")
    if marker is not None and (report.when == "call" or report.failed):
        _rows[marker.args] = "failed" if report.failed or _rows.get(marker.args) == "failed" else "works"
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    # Elsewhere this file is read too late for its option.
    if _rows and session.config.getoption("--ecosystem-page", default=False):
        rows = [f"| {tool} | {version(tool)} | {what} | {result} |" for (tool, what), result in sorted(_rows.items())]
        PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LocalServer]]:
    """A server that says what it is given, with room for the long prompts of agents: its tokens are bytes."""
    servers: list[LocalServer] = []

    def started(replies: Any) -> LocalServer:
        path = build_scripted(tmp_path_factory.mktemp("script") / "a.gguf", replies, context_length=_CONTEXT)
        servers.append(LocalServer(path, parallel=1, ctx_size=_CONTEXT, threads=2, warmup=False).start())
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


@pytest.fixture
def chat(script: Callable[..., LocalServer]) -> Iterator[Callable[..., ChatLlamaServer]]:
    """LangChain's model on a script."""
    made: list[ChatLlamaServer] = []

    def make(replies: Any, **fields: Any) -> ChatLlamaServer:
        made.append(ChatLlamaServer(base_url=script(replies).base_url, **fields))
        return made[-1]

    yield make
    for model in made:
        model.close()


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[Callable[[bool], LlamaServerDecisions]]:
    """A decision model that always answers yes, or no."""
    with ExitStack() as stack:

        def make(says_yes: bool) -> LlamaServerDecisions:
            table = {"\n": {"y": 0.9, "n": 0.05} if says_yes else {"y": 0.05, "n": 0.9}}
            path = build_table(tmp_path / "judge.gguf", table)
            server = LocalServer(path, ctx_size=8192, parallel=1, threads=1, warmup=False)
            return LlamaServerDecisions(base_url=stack.enter_context(server).base_url)

        yield make


@pytest.fixture
def llm(script: Callable[..., LocalServer]) -> Iterator[Callable[..., LlamaServer]]:
    """LlamaIndex's model on a script."""
    made: list[LlamaServer] = []

    def make(replies: Any, **fields: Any) -> LlamaServer:
        made.append(LlamaServer(base_url=script(replies).base_url, **fields))
        return made[-1]

    yield make
    for model in made:
        model.close()


@pytest.fixture
def embeddings(embedding_server: LocalServer) -> LlamaServerEmbeddings:
    return LlamaServerEmbeddings(base_url=embedding_server.base_url, query_prefix="", document_prefix="")


@pytest.fixture
def embed_model(embedding_server: LocalServer) -> LlamaServerEmbedding:
    return LlamaServerEmbedding(base_url=embedding_server.base_url, query_instruction="", text_instruction="")
