"""The server's prompt cache with two sessions of an agent: warmed, reported, and defeated by a clock.

Without LLAMACPP_BASE_URL it starts the embedded server on the small model of this repository. See docs/prompt-cache.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool

from langchain_llamacpp_server import CacheReport, ChatLlamaServer
from llamacpp_server import LocalServer

MODEL = Path(__file__).parent.parent / "models" / "tiny-chat.gguf"
SYSTEM = "You know the weather in all the cities of the world and tell it in one sentence. " * 3


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"It is 18 degrees in {city}."


def session(llm: ChatLlamaServer, report: CacheReport, name: str, *, clock: bool = False) -> None:
    """Three questions, each with the history so far."""
    model, history = llm.bind_tools([get_weather]), list[BaseMessage]()
    for turn, city in enumerate(("Oslo", "Lisbon", "Rome")):
        history.append(HumanMessage(f"What is the weather in {city}?"))
        system = f"It is 12:{turn:02} o'clock. {SYSTEM}" if clock else SYSTEM
        messages = [SystemMessage(system), *history]
        reply: AIMessage = model.invoke(messages, {"callbacks": [report], "metadata": {"session": name}})
        history.append(AIMessage(reply.text or "I have to look."))


@contextmanager
def server() -> Iterator[str]:
    """Your server, or one with flags for this: sessions find their own cache, whoever came in between."""
    if url := os.environ.get("LLAMACPP_BASE_URL"):
        yield url
        return
    with LocalServer(MODEL, threads=1, parallel=1, slot_prompt_similarity=0.0) as local:
        yield local.base_url


def main() -> None:
    with server() as url:
        llm = ChatLlamaServer(base_url=url, temperature=0, max_tokens=40, thinking=False)
        read = llm.prewarm(SYSTEM, [get_weather])
        print(f"read ahead: {read.read} of {read.tokens} tokens in {read.ms:.0f} ms; again: ", end="")
        print(f"{llm.prewarm(SYSTEM, [get_weather]).read}\n")
        report = CacheReport(llm)
        session(llm, report, "stable")
        session(llm, report, "with a clock", clock=True)
        print(report)


if __name__ == "__main__":
    main()
