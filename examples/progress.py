"""Progress: a bar while a long prompt is processed, and events of both frameworks."""

import asyncio

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent

from examples.servers import chat_server
from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import ProgressBar
from llamaindex_llamacpp_server import LlamaServer, LlamaServerProgressEvent

LONG = "Hello! " * 300


def bar(url: str) -> None:
    ChatLlamaServer(base_url=url, max_tokens=5, on_progress=ProgressBar()).invoke(LONG)


async def langchain(url: str) -> None:
    llm = ChatLlamaServer(base_url=url, max_tokens=5, cache_prompt=False)
    async for event in llm.astream_events(LONG):
        if event["name"] == "llamacpp_progress":
            print(f"LangChain: {event['data']['done']} of {event['data']['total']} {event['data']['unit']}")
    await llm.aclose()


class Listener(BaseEventHandler):
    def handle(self, event: BaseEvent, **_: object) -> None:
        if isinstance(event, LlamaServerProgressEvent):
            print(f"LlamaIndex: {event.progress.done} of {event.progress.total} {event.progress.unit}")


def llamaindex(url: str) -> None:
    listener = Listener()
    get_dispatcher().add_event_handler(listener)
    LlamaServer(base_url=url, max_tokens=5, cache_prompt=False).complete(LONG)
    get_dispatcher().event_handlers.remove(listener)


if __name__ == "__main__":
    with chat_server() as server:
        bar(server)
        asyncio.run(langchain(server))
        llamaindex(server)
