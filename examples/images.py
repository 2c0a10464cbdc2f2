"""Images from files and URLs, in both frameworks. Needs a server with --mmproj, and pictures:

python -m examples.images http://localhost:8080 cat.webp https://host.name/dog.jpg
"""

import sys
from pathlib import Path

from langchain_core.messages import HumanMessage
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock

from examples.servers import needs
from langchain_llamacpp_server import ChatLlamaServer
from llamaindex_llamacpp_server import LlamaServer

QUESTION = "What is in this picture?"


def main(base_url: str, *pictures: str) -> None:
    # Messages may come from anywhere, so what they name is looked up only because this says so.
    chat = ChatLlamaServer(base_url=base_url, max_tokens=100, read_files=True, fetch_urls=True)
    print("the server sees" if chat.server_info().vision else "the server is blind: start it with --mmproj")
    for picture in pictures:
        address = picture if "://" in picture else Path(picture).absolute().as_uri()
        reply = chat.invoke([HumanMessage([QUESTION, {"type": "image", "url": address}])])
        print(f"LangChain, {picture}: {reply.text!r}")
        for repair in reply.response_metadata.get("llamacpp", {}).get("repairs", ()):
            print(f"  {repair['what']}")

    llm = LlamaServer(base_url=base_url, max_tokens=100, read_files=True, fetch_urls=True)
    for picture in pictures:
        place = {"url": picture} if "://" in picture else {"path": picture}
        answer = llm.chat([ChatMessage(blocks=[TextBlock(text=QUESTION), ImageBlock(**place)])])
        print(f"LlamaIndex, {picture}: {answer.message.content!r}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        needs("a server with --mmproj and a picture: python -m examples.images http://localhost:8080 cat.webp")
    main(*sys.argv[1:])
