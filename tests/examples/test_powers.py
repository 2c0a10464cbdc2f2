"""The examples of what the server can do beyond chat, run on real servers."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from examples import lora, progress, router, thinking, tokens

MODEL = Path(__file__).parents[2] / "models" / "tiny-chat.gguf"


@pytest.fixture(scope="module")
def url(serve: Any) -> str:
    return serve(MODEL, parallel=2).base_url  # type: ignore[no-any-return]


def test_thinking(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    thinking.langchain(url)
    thinking.llamaindex(url)
    said = capsys.readouterr().out
    assert "thinking=False: 0 words of thought" in said
    assert "thinking=3: 1 words of thought" in said
    assert "thinking=True: ['ThinkingBlock', 'TextBlock']" in said


def test_tokens(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    tokens.langchain(url)
    tokens.llamaindex(url)
    assert capsys.readouterr().out.count("of 4096: fits") == 2


async def test_progress(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    progress.bar(url)
    await progress.langchain(url)
    progress.llamaindex(url)
    said = capsys.readouterr().out
    assert "LangChain: 910 of 910 tokens" in said
    assert "LlamaIndex: 910 of 910 tokens" in said


def test_lora(models_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapters = [str(models_dir / "lora" / name) for name in ("poet.gguf", "pirate.gguf")]
    lora.main(str(models_dir / "random.gguf"), *adapters)
    said = capsys.readouterr().out
    assert "adapters: poet, pirate" in said
    assert "LlamaIndex, poet:" in said


@pytest.mark.binary
def test_router(models_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        shutil.copy(models_dir / "random.gguf", tmp_path / f"{name}.gguf")
    router.main(str(tmp_path))
    said = capsys.readouterr().out.splitlines()
    assert "running: ['first']" in said
    assert "LangChain asks first" in said
    assert "LlamaIndex asks second" in said
    assert said[-1] == "running: []"
