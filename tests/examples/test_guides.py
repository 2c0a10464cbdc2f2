"""The Python of the guides runs as it stands there, from the first block to the last; only the addresses are others."""

import importlib
from collections.abc import Callable
from typing import Any

import llama_index.core
import pytest
from llama_index.core import Settings

from llamacpp_server import LocalServer

Run = Callable[..., dict[str, Any]]


# What the core's agents and workflows warn of is in test_agents.py.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211")
@pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning")
def test_llamaindex(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for holder, name in ((Settings, "_llm"), (Settings, "_tokenizer"), (llama_index.core, "global_tokenizer")):
        monkeypatch.setattr(holder, name, getattr(holder, name))  # the page sets them
    names = run("llamaindex.md")
    assert names["reply"].message.content
    assert names["item"].raw["usage"]["completion_tokens"] > 0
    assert "Lisbon" in names["answer"]
    assert isinstance(names["person"], names["Person"])
    assert len(names["memory"].get_all()) == 2
    assert "4711" in names["response"].source_nodes[0].text
    assert 0 <= names["response"].source_nodes[0].score <= 1
    assert "Ada" in capsys.readouterr().out
    assert 0 < names["chosen"].selections[0].score <= 1
    assert 0 <= names["graded"][0].score <= 1
    for ours in ("llm", "embed_model", "rerank", "selector", "grade", "judge"):
        names[ours].close()
    names["reacting"].llm.close()


def test_langchain(run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("langchain.chat_models.base", "langchain.embeddings.base"):
        table = importlib.import_module(module)._BUILTIN_PROVIDERS
        monkeypatch.setattr(f"{module}._BUILTIN_PROVIDERS", dict(table))
    names = run("langchain.md")
    assert [block["type"] for block in names["reply"].content_blocks] == ["reasoning", "text"]
    assert any(line.startswith("stop ") for line in capsys.readouterr().out.splitlines())
    assert [message.type for message in names["state"]["messages"]] == ["human", "ai", "tool", "ai"]
    assert "Lisbon" in names["answer"]
    assert isinstance(names["person"], names["Person"])
    assert "4711" in names["best"][0].page_content
    assert 0 <= names["best"][0].metadata["relevance_score"] <= 1
    assert sum(names["decided"].choices["team"].probabilities.values()) == pytest.approx(1)
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
