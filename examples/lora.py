"""LoRA adapters by name, for one request and for all. Needs a model and its adapters:

python -m examples.lora model.gguf poet.gguf pirate.gguf
"""

import sys

from examples.servers import needs
from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LocalServer
from llamaindex_llamacpp_server import LlamaServer


def main(model: str, *adapters: str) -> None:
    with LocalServer(model, lora=dict.fromkeys(adapters, 0.0), ctx_size=2048, parallel=2, threads=1) as server:
        llm = ChatLlamaServer(base_url=server.base_url, temperature=0, max_tokens=20)
        names = [adapter.name for adapter in llm.client.lora_adapters()]
        print(f"adapters: {', '.join(names)}")
        for name in names:
            print(f"LangChain, {name}: {llm.invoke('Hello', lora={name: 1.0}).content!r}")
        llm.client.set_lora_adapters({names[0]: 1.0})  # for requests that name none
        reply = LlamaServer(base_url=server.base_url, temperature=0, max_tokens=20).complete("Hello")
        print(f"LlamaIndex, {names[0]}: {reply.text!r}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        needs("a model and its adapters: python -m examples.lora model.gguf poet.gguf pirate.gguf")
    main(*sys.argv[1:])
