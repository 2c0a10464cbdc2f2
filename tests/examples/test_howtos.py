"""The Python of each how-to page runs as it stands, from the first block to the last; only the addresses differ."""

import logging
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))

# What only `make test-ecosystem` installs, by page; the blocks that import it run there.
ECOSYSTEM = ("langchain_chroma", "langchain_community", "langfuse", "phoenix", "mcp", "langchain_mcp_adapters")
# These show an address that does not exist.
NOT_RUN = ("llama.example.com",)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A page shows how to silence the log; the tests after it read the log."""
    loggers = [logging.getLogger(name) for name in ("", "llamacpp_server", "httpx")]
    before = [(logger, logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, filters, handlers in before:
        logger.setLevel(level)
        logger.filters[:], logger.handlers[:] = filters, handlers


def blocks(page: Path) -> list[str]:
    """Python blocks of a page, those inside tabs included."""
    found = re.findall(r"^( *)```python\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(code) for _, code in found]


def needs(block: str) -> set[str]:
    return {name for name in ECOSYSTEM if re.search(rf"^(from|import) {name}\b", block, re.MULTILINE)}


@pytest.fixture(scope="module")
def addresses(serve: Any) -> dict[str, str]:
    encoder = MODELS / "tiny-encoder.gguf"
    return {
        "8080": serve(MODELS / "tiny-chat.gguf", parallel=2, ctx_size=8192).base_url,
        "8081": serve(encoder, embeddings=True, pooling="mean", parallel=2, ctx_size=1024).base_url,
        "8082": serve(encoder, reranking=True, parallel=2, ctx_size=512).base_url,
        # The trained encoder reads 256 tokens at most, less than the default of a real one.
        "wide": serve("encoder.gguf", embeddings=True, pooling="mean", parallel=2, ctx_size=1024).base_url,
    }


@pytest.fixture
def run(addresses: dict[str, str]) -> Callable[[Path], dict[str, Any]]:
    def run(page: Path) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": page.stem}
        for block in blocks(page):
            if needs(block) or any(word in block for word in NOT_RUN):
                continue
            known = addresses | {"8081": addresses["wide"]} if page.stem == "split-texts" else addresses
            code = re.sub(r"http://localhost:(\d+)", lambda match, known=known: known[match[1]], block)
            exec(compile(code, str(page), "exec"), names)
        return names

    return run


def test_the_pages_are_seen() -> None:
    assert len(PAGES) >= 10
    assert sum(len(blocks(page)) for page in PAGES) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
def test_a_page_runs_as_written(
    page: Path, run: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some pages write files
    names = run(page)
    assert names["__name__"] == page.stem
    for name in ("index_llm", "embed_model"):
        if name in names:
            names[name].close()


def test_streaming_and_batches_answer_every_question(
    run: Callable[[Path], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    names = run(ROOT / "docs" / "howto" / "async-and-batch.md")
    assert len(names["replies"]) == 2
    assert all(reply.text for reply in names["replies"])
    names["index_llm"].close()


def test_the_agent_remembers_its_thread(run: Callable[[Path], dict[str, Any]]) -> None:
    names = run(ROOT / "docs" / "howto" / "langgraph-memory.md")
    assert "Oslo" in names["state"]["messages"][-1].text
    assert [message.type for message in names["state"]["messages"]][:4] == ["human", "ai", "tool", "ai"]


def test_chunks_of_a_long_text_are_embedded(
    run: Callable[[Path], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run(ROOT / "docs" / "howto" / "split-texts.md")["embed_model"].close()
    chunks, vectors, nodes, more = (int(line.split()[0]) for line in capsys.readouterr().out.splitlines())
    assert chunks == vectors > 1
    assert nodes == more > 1


@pytest.mark.parametrize(
    "name", ["test_the_agent_looks_the_weather_up", "test_two_turns", "test_a_long_conversation_is_reported"]
)
def test_the_tests_of_the_testing_page_pass(
    name: str, run: Callable[[Path], dict[str, Any]], scripted_llama_server: Callable[..., Any]
) -> None:
    run(ROOT / "docs" / "howto" / "test-your-app.md")[name](scripted_llama_server)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_on_a_page_fits_without_scrolling(page: Path) -> None:
    assert [line for block in blocks(page) for line in block.split("\n") if len(line) > 88] == []
