"""Exact token counts: check that a request fits, trim a conversation, split text; in both frameworks."""

from langchain_core.messages import HumanMessage, trim_messages
from llama_index.core.llms import ChatMessage
from llama_index.core.node_parser import SentenceSplitter

from examples.servers import chat_server, needs
from langchain_llamacpp_server import ChatLlamaServer
from llamaindex_llamacpp_server import LlamaServer

try:
    from langchain_text_splitters import RecursiveCharacterTextSplitter
except ImportError:
    needs("LangChain's splitters: pip install langchain-text-splitters")

TEXT = "The key to the cellar is in the kitchen. " * 40


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def langchain(url: str) -> None:
    llm = ChatLlamaServer(base_url=url)
    fit = llm.fits([HumanMessage(TEXT)], tools=[get_weather], max_tokens=200)
    print(f"{fit.needed} tokens of {fit.available}: {'fits' if fit else 'does not fit'}")
    long = [HumanMessage(f"{number}: {TEXT[:80]}") for number in range(30)]
    kept = trim_messages(long, max_tokens=300, token_counter=llm, strategy="last")
    print(f"{len(kept)} of {len(long)} messages fit into 300 tokens")
    splitter = RecursiveCharacterTextSplitter(chunk_size=100, chunk_overlap=0, length_function=llm.tokenizer.count)
    print(f"{len(splitter.split_text(TEXT))} chunks of at most 100 tokens")


def llamaindex(url: str) -> None:
    llm = LlamaServer(base_url=url)
    fit = llm.fits([ChatMessage(content=TEXT)], max_tokens=200)
    print(f"{fit.needed} tokens of {fit.available}: {'fits' if fit else 'does not fit'}")
    splitter = SentenceSplitter(chunk_size=100, chunk_overlap=0, tokenizer=llm.tokenizer)  # or Settings.tokenizer
    print(f"{len(splitter.split_text(TEXT))} chunks of at most 100 tokens")


if __name__ == "__main__":
    with chat_server() as server:
        langchain(server)
        llamaindex(server)
