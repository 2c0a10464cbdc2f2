"""Reasoning: off, limited in tokens or seconds, and ended while it runs; in both frameworks.

Runs on LLAMACPP_BASE_URL, or on the small model of this repository.
"""

from llama_index.core.llms import ChatMessage

from examples.servers import chat_server
from langchain_llamacpp_server import ChatLlamaServer
from llamaindex_llamacpp_server import LlamaServer

QUESTION = "What is the weather in Oslo?"


def langchain(url: str) -> None:
    llm = ChatLlamaServer(base_url=url, temperature=0, max_tokens=200)
    for thinking in (True, False, 3):
        reply = llm.invoke(QUESTION, thinking=thinking)
        thought = reply.additional_kwargs.get("reasoning_content", "")
        print(f"thinking={thinking}: {len(thought.split())} words of thought, then {reply.text[:40]!r}")
    reply = llm.invoke(QUESTION, max_thinking_seconds=10)
    print(f"within ten seconds: {reply.text[:40]!r}")
    llm = llm.model_copy(update={"reasoning_control": True})
    for number, chunk in enumerate(llm.stream(QUESTION)):
        if number == 1:
            llm.end_thinking()  # from any thread, a button's for example
        print(chunk.text, end="")
    print()


def llamaindex(url: str) -> None:
    llm = LlamaServer(base_url=url, temperature=0, max_tokens=200, max_thinking_seconds=10)
    for thinking in (True, False):
        reply = llm.chat([ChatMessage(content=QUESTION)], thinking=thinking)
        print(f"thinking={thinking}: {[type(block).__name__ for block in reply.message.blocks]}")


if __name__ == "__main__":
    with chat_server() as server:
        langchain(server)
        llamaindex(server)
