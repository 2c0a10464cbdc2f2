"""Log probabilities: how likely each token was, and its alternatives, in both frameworks."""

from math import exp

from llama_index.core.llms import ChatMessage

from examples.servers import chat_server
from langchain_llamacpp_server import ChatLlamaServer
from llamaindex_llamacpp_server import LlamaServer

QUESTION = "Hello! My name is Ada."


def main(base_url: str) -> None:
    chat = ChatLlamaServer(base_url=base_url, max_tokens=20, temperature=0, logprobs=True, top_logprobs=3)
    first, *rest = chat.stream(QUESTION)
    for token in (first + rest).response_metadata["logprobs"]["content"]:
        others = ", ".join(f"{one['token']!r} {exp(one['logprob']):.0%}" for one in token["top_logprobs"])
        print(f"{token['token']!r:12} {exp(token['logprob']):4.0%}  of {others}")

    # 0 alternatives: the tokens themselves, which is enough to tell how sure the whole answer is.
    llm = LlamaServer(base_url=base_url, max_tokens=20, temperature=0, logprobs=True, top_logprobs=0)
    probabilities = llm.chat([ChatMessage(content=QUESTION)]).logprobs or []
    print(f"the least sure of {len(probabilities)} tokens: {exp(min(own.logprob for own, *_ in probabilities)):.0%}")


if __name__ == "__main__":
    with chat_server() as server:
        main(server)
