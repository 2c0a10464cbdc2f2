"""The servers and files that the pages name."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.pages import DOCS, MODELS, run_page

# Files that the pages name.
FILES = {
    "model.gguf": "tiny-chat.gguf",
    "encoder.gguf": "tiny-encoder.gguf",
    "ranker.gguf": "tiny-encoder.gguf",
    "models/qwen3-0.6b.gguf": "tiny-chat.gguf",
}


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """A page shows how to silence the log; the tests after it read the log."""
    loggers = [logging.getLogger(name) for name in ("", "llamacpp_server", "httpx")]
    before = [(logger, logger.level, list(logger.filters), list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, filters, handlers in before:
        logger.setLevel(level)
        logger.filters[:], logger.handlers[:] = filters, handlers


@pytest.fixture(scope="session")
def addresses(serve: Any) -> dict[str, str]:
    encoder = MODELS / "tiny-encoder.gguf"
    return {
        "8080": serve(MODELS / "tiny-chat.gguf", parallel=2, ctx_size=8192).base_url,
        "8081": serve(encoder, embeddings=True, pooling="mean", parallel=2, ctx_size=512).base_url,
        "8082": serve(encoder, reranking=True, parallel=2, ctx_size=512).base_url,
        "8083": serve(encoder, embeddings=True, pooling="none", parallel=2, ctx_size=512).base_url,
    }


@pytest.fixture
def run(
    addresses: dict[str, str], logging_as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Runs a page below docs/ in a directory with the files that pages name, and returns the names that it leaves."""
    for name, model in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(MODELS / model)
    monkeypatch.chdir(tmp_path)

    def run(page: str, with_needs: str = "", **others: str) -> dict[str, Any]:
        known = addresses | {port.removeprefix("port_"): url for port, url in others.items()}
        monkeypatch.setenv("LLAMACPP_BASE_URL", known["8080"])
        return run_page(DOCS / page, known, with_needs)

    return run
