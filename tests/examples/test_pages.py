"""Every Python block of the README and of every page runs as it stands, or says in its first line what it needs."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import LlamaServer, LlamaServerEmbedding, LlamaServerRerank
from tests.examples.pages import DOCS, PAGES, ROOT, blocks, needs
from tests.media import picture
from tests.spans import undone

Run = Callable[..., dict[str, Any]]

# These have a test of their own, which looks at what they show.
OWN_TESTS = {
    "README.md": "tests/examples/test_readme.py",
    "docs/client.md": "tests/examples/test_guides.py",
    "docs/langchain.md": "tests/examples/test_guides.py",
    "docs/llamaindex.md": "tests/examples/test_guides.py",
    "docs/local-server.md": "tests/examples/test_guides.py",
    "docs/web-servers.md": "tests/server/test_web_servers.py",
    "docs/howto/split-texts.md": "tests/examples/test_howtos.py",
}

# What a block can need, and where it is run with it.
NEEDS = {
    "an image and a vision model": "tests/examples/test_pages.py",
    "a router": "tests/examples/test_pages.py",
    "adapters": "tests/examples/test_pages.py",
    "opentelemetry": "tests/examples/test_pages.py",
    "llama-index-llms-openai-like": "tests/examples/test_pages.py",
    "langchain-qdrant": "tests/examples/test_pages.py",
    "Dask": "tests/scaling/test_scaling.py",
    "langchain-chroma": "tests/ecosystem/test_chains.py",
    "langchain-community": "tests/ecosystem/test_chains.py",
    "langchain-mcp-adapters": "tests/ecosystem/test_agents.py",
    "mcp": "tests/ecosystem/test_agents.py",
    "langfuse": "tests/ecosystem/test_chains.py",
    "Phoenix": None,  # a service
    "your own address": None,
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_pages_are_seen() -> None:
    assert len(PAGES) > 25
    assert sum(len(blocks(page)) for page in PAGES) > 70


def test_pages_and_needs_listed_here_exist() -> None:
    found = {need for page in PAGES for block in blocks(page) if (need := needs(block))}
    unknown = [need for need in found if not need.startswith(tuple(NEEDS))]
    assert unknown == []
    assert [need for need in NEEDS if not any(one.startswith(need) for one in found)] == []
    assert set(OWN_TESTS) <= {name_of(page) for page in PAGES}
    assert [path for path in {*OWN_TESTS.values(), *NEEDS.values()} if path and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) not in OWN_TESTS], ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore:The middleware `:langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
def test_a_page_runs_as_written(page: Path, run: Run, uninstrumented: None) -> None:
    names = run(page.relative_to(DOCS))
    assert names["__name__"] == page.stem
    close(names)


@pytest.fixture
def uninstrumented() -> Iterator[None]:
    """A page shows how to write spans; the tests after it expect none."""
    from llamacpp_server.telemetry import uninstrument

    yield
    uninstrument()


def close(names: dict[str, Any]) -> None:
    """Close the models of LlamaIndex that a page left."""
    for value in names.values():
        if isinstance(value, (LlamaServer, LlamaServerEmbedding, LlamaServerRerank)):
            value.close()


def test_images_reach_a_vision_server(
    run: Run, vision_server: LocalServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_bytes(picture())
    close(run("multimodal.md", "an image and a vision model", port_8080=vision_server.base_url))
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_adapters_are_applied(run: Run, models_dir: Path) -> None:
    adapters = [models_dir / "lora" / "poet.gguf"]
    with LocalServer(models_dir / "random.gguf", lora=adapters, threads=1, ctx_size=1024, parallel=1) as server:
        names = run("multi-model.md", "adapters", port_8080=server.base_url)
        assert [adapter.scale for adapter in names["llm"].client.lora_adapters()] == [1.0]


@pytest.mark.binary
def test_models_behind_a_router(models_dir: Path, tmp_path: Path, run: Run) -> None:
    (tmp_path / "family").mkdir()
    for name in ("qwen3-8b", "gemma-4b"):
        shutil.copy(models_dir / "random.gguf", tmp_path / "family" / f"{name}.gguf")
    options: dict[str, Any] = {"ctx_size": 1024, "parallel": 1, "threads": 1}
    with LocalServer(models_dir=tmp_path / "family", **options) as server:
        names = run("multi-model.md", "a router", port_8080=server.base_url)
        assert [card.id for card in names["client"].running_models()] == ["gemma-4b"]


def test_spans_of_an_instrumentation(run: Run, uninstrumented: None) -> None:
    from opentelemetry.instrumentation.langchain import LangchainInstrumentor

    with undone():
        try:
            assert run("observability.md", "opentelemetry")["provider"]
        finally:
            LangchainInstrumentor().uninstrument()


def test_both_halves_of_the_migration_run(run: Run) -> None:
    pytest.importorskip("llama_index.llms.openai_like", reason="`make test-notebooks` installs it")
    close(run("moving.md", "llama-index-llms-openai-like"))


def test_texts_in_qdrant(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("howto/vector-stores.md", "langchain-qdrant")
    assert "The ferry to the island leaves at nine." in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_on_a_page_fits_without_scrolling(page: Path) -> None:
    widest = 100 if page.name == "README.md" else 80
    assert [line for block in blocks(page) for line in block.split("\n") if len(line) > widest] == []
