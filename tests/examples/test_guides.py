"""The Python of the guides runs as it stands there, from the first block to the last; only the addresses are others."""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import LocalServer

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"

Run = Callable[[str], dict[str, Any]]


@pytest.fixture
def run(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a page in a directory with the models that it names, and gives the names that it leaves."""
    encoder = MODELS / "tiny-encoder.gguf"
    addresses = {
        "8080": serve(MODELS / "tiny-chat.gguf", parallel=2, ctx_size=8192).base_url,
        "8081": serve(encoder, embeddings=True, pooling="mean", parallel=2, ctx_size=512).base_url,
        "8082": serve(encoder, reranking=True, parallel=2, ctx_size=512).base_url,
        "8083": serve(encoder, embeddings=True, pooling="none", parallel=2, ctx_size=512).base_url,
    }
    for name, model in NAMED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(MODELS / model)
    monkeypatch.chdir(tmp_path)

    def run(page: str) -> dict[str, Any]:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        text = re.sub(r"http://localhost:(\d+)", lambda match: addresses[match[1]], text)
        names: dict[str, Any] = {"__name__": page}
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(compile(block, page, "exec"), names)
        return names

    return run


NAMED = {
    "model.gguf": "tiny-chat.gguf",
    "encoder.gguf": "tiny-encoder.gguf",
    "ranker.gguf": "tiny-encoder.gguf",
    "models/qwen3-0.6b.gguf": "tiny-chat.gguf",
}


# What the core's agents and workflows warn of is in test_agents.py.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")
def test_llamaindex(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("llamaindex.md")
    assert names["reply"].message.content
    assert names["item"].raw["usage"]["completion_tokens"] > 0
    assert "Lisbon" in names["answer"]
    assert isinstance(names["person"], names["Person"])
    assert len(names["memory"].get_all()) == 2
    assert "4711" in names["response"].source_nodes[0].text
    assert 0 <= names["response"].source_nodes[0].score <= 1
    assert "Ada" in capsys.readouterr().out
    for ours in ("llm", "embed_model", "rerank"):
        names[ours].close()
    names["reacting"].llm.close()


def test_langchain(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("langchain.chat_models.base", "langchain.embeddings.base"):
        table = importlib.import_module(module)._BUILTIN_PROVIDERS
        monkeypatch.setattr(f"{module}._BUILTIN_PROVIDERS", dict(table))
    names = run("langchain.md")
    assert [block["type"] for block in names["reply"].content_blocks] == ["reasoning", "text"]
    assert capsys.readouterr().out.split()[-2] == "stop"
    assert [message.type for message in names["state"]["messages"]] == ["human", "ai", "tool", "ai"]
    assert "Lisbon" in names["answer"]
    assert isinstance(names["person"], names["Person"])
    assert "4711" in names["best"][0].page_content
    assert 0 <= names["best"][0].metadata["relevance_score"] <= 1
    assert names["text"].strip()
    assert isinstance(names["made"], names["ChatLlamaServer"])


def test_the_client(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("client.md")
    *said, counted, context = capsys.readouterr().out.split()
    assert said
    assert int(counted[-1])
    assert int(context) == 4096
    assert names["delta"].usage is not None
    assert names["documents"][names["best"]] == "Rain in Cologne."
    assert names["reply"].content


def test_a_server_of_your_own(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("local-server.md")
    assert capsys.readouterr().out.strip()
    assert isinstance(names["server"], LocalServer)
    assert not names["server"].is_running
