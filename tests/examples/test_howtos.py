"""What some of the how-to pages show; test_pages.py runs all of them."""

from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., dict[str, Any]]


def test_streaming_and_batches_answer_every_question(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("howto/async-and-batch.md")
    assert len(names["replies"]) == 2
    assert all(reply.text for reply in names["replies"])
    names["index_llm"].close()


def test_the_agent_remembers_its_thread(run: Run) -> None:
    names = run("howto/langgraph-memory.md")
    assert "Oslo" in names["state"]["messages"][-1].text
    assert [message.type for message in names["state"]["messages"]][:4] == ["human", "ai", "tool", "ai"]


def test_chunks_of_a_long_text_are_embedded(run: Run, serve: Any, capsys: pytest.CaptureFixture[str]) -> None:
    # The trained encoder reads 256 tokens at most, less than the default of a real one.
    wide = serve("encoder.gguf", embeddings=True, pooling="mean", parallel=2, ctx_size=1024).base_url
    run("howto/split-texts.md", port_8081=wide)["embed_model"].close()
    chunks, vectors, nodes, more = (int(line.split()[0]) for line in capsys.readouterr().out.splitlines())
    assert chunks == vectors > 1
    assert nodes == more > 1


@pytest.mark.parametrize(
    "name", ["test_the_agent_looks_the_weather_up", "test_two_turns", "test_a_long_conversation_is_reported"]
)
def test_the_tests_of_the_testing_page_pass(name: str, run: Run, scripted_llama_server: Callable[..., Any]) -> None:
    run("howto/test-your-app.md")[name](scripted_llama_server)
