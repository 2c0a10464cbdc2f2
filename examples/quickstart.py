"""Chat, thinking, an agent with tools, and RAG on a real llama.cpp server, in the terminal.

`make demo` runs it. Without LLAMACPP_BASE_URL it starts the embedded server on the small models of this repository,
which know a handful of phrasings; with it, everything that a chat model does runs on your own server.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerEmbeddings, LlamaServerReranker
from llamacpp_server import LocalServer

MODELS = Path(__file__).parent.parent / "models"
DIM, BOLD, PLAIN = ("\033[2m", "\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return f"It is 18 degrees in {city}."


def title(text: str) -> None:
    print(f"\n{BOLD}{text}{PLAIN}")


def show(chunks: Iterator[BaseMessage]) -> None:
    """Print a stream as it arrives, with dimmed reasoning, and the server's timings at the end."""
    timings: dict[str, float] = {}
    for chunk in chunks:
        if thinking := chunk.additional_kwargs.get("reasoning_content"):
            print(f"{DIM}{thinking}{PLAIN}", end="", flush=True)
        print(chunk.text, end="", flush=True)
        timings = chunk.response_metadata.get("timings") or timings
    if timings:
        speed = timings.get("predicted_per_second") or 0
        print(f"\n{DIM}{timings['predicted_n']} tokens, {speed:.0f} a second{PLAIN}")


def chat(llm: ChatLlamaServer) -> None:
    title("A chat, streamed")
    print("> Hello! My name is Ada.")
    show(llm.stream("Hello! My name is Ada."))


def thinking(llm: ChatLlamaServer) -> None:
    title("The same model, thinking first")
    question = "What is the weather in Oslo?"
    print(f"> {question}")
    thinker = llm.bind_tools([get_weather]).bind(chat_template_kwargs={"enable_thinking": True})
    reply = thinker.invoke(question)
    print(f"{DIM}{reply.additional_kwargs.get('reasoning_content', '').strip()}{PLAIN}")
    print(reply.text or ", ".join(f"{call['name']}({call['args']})" for call in reply.tool_calls))


def agent(llm: ChatLlamaServer) -> None:
    title("An agent: the model asks for a tool, and answers from its result")
    question = "What is the weather in Lisbon?"
    print(f"> {question}")
    messages: list[BaseMessage] = [HumanMessage(question)]
    model = llm.bind_tools([get_weather])
    for _ in range(3):
        reply: AIMessage = model.invoke(messages)
        messages.append(reply)
        if not reply.tool_calls:
            break
        for call in reply.tool_calls:
            result = get_weather.invoke(call)
            print(f"{DIM}{call['name']}({call['args']}) -> {result.content}{PLAIN}")
            messages.append(result)
    print(reply.text)


DOCUMENTS = [
    "The code of the garage is 4711.",
    "The meeting is on Thursday at noon.",
    "The key to the cellar is in the kitchen.",
    "Lena likes green tea.",
]


def rag(llm: ChatLlamaServer, embeddings: LlamaServerEmbeddings, reranker: LlamaServerReranker) -> None:
    title("RAG: embed, retrieve, rerank, answer")
    question = "What is the code of the garage?"
    print(f"> {question}")
    store = InMemoryVectorStore.from_documents([Document(text) for text in DOCUMENTS], embeddings)
    found = store.similarity_search(question, k=3)
    best = reranker.compress_documents(found, question)
    for document in best:
        print(f"{DIM}{document.metadata['relevance_score']:+.2f}  {document.page_content}{PLAIN}")
    context = best[0].page_content
    show(llm.stream(f"Context: {context}\nQuestion: {question}"))


@contextmanager
def servers() -> Iterator[tuple[str, str, str]]:
    """Base URLs for chat, embeddings and reranking."""
    with ExitStack() as stack:

        def local(name: str, **options: object) -> str:
            # One thread: for models of this size a second one only waits for the first.
            return stack.enter_context(LocalServer(MODELS / name, threads=1, **options)).base_url

        yield (
            os.environ.get("LLAMACPP_BASE_URL") or local("tiny-chat.gguf", parallel=2),
            local("tiny-encoder.gguf", embeddings=True, pooling="mean"),
            local("tiny-encoder.gguf", reranking=True),
        )


def main() -> None:
    with servers() as (chat_url, embedding_url, rerank_url):
        llm = ChatLlamaServer(base_url=chat_url, temperature=0, max_tokens=200)
        llm = llm.model_copy(update={"chat_template_kwargs": {"enable_thinking": False}})
        print(f"llama-server at {chat_url}, {llm.server_info().model}, {llm.server_info().n_ctx} tokens a slot")
        chat(llm)
        agent(llm)
        thinking(llm)
        rag(llm, LlamaServerEmbeddings(base_url=embedding_url), LlamaServerReranker(base_url=rerank_url, top_n=2))


if __name__ == "__main__":
    main()
