"""LoRA adapters by name, as a field and with a call."""

import pytest
from llama_index.core.llms import ChatMessage

from llamacpp_server import BadRequestError

PLAIN = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "cache_prompt": False}


def test_adapters_by_name(make_llm, lora_server):
    plain, poet = make_llm(lora_server, **PLAIN), make_llm(lora_server, lora={"poet": 1.0}, **PLAIN)

    def said(llm, **call):
        return llm.complete("Hi", formatted=True, **call).text

    assert said(plain) != said(poet) == said(plain, lora={"poet": 1.0})
    assert said(poet, lora={"poet": 0.0}) == said(plain)
    hello = [ChatMessage(content="Hi")]
    texts = [llm.chat(hello, logprobs=True).raw["choices"][0]["logprobs"] for llm in (plain, poet)]
    assert texts[0] != texts[1]
    with pytest.raises(BadRequestError, match="pirate"):
        said(plain, lora={"sailor": 1.0})
