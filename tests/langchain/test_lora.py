"""LoRA adapters by name, as a field and with a call, in chat model and LLM."""

from typing import Any

import pytest
from langchain_core.language_models import BaseLanguageModel

from langchain_llamacpp_server import ChatLlamaServer, LlamaServerLLM
from llamacpp_server import BadRequestError, LocalServer

PLAIN: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "cache_prompt": False, "n_probs": 1}


@pytest.mark.parametrize("kind", [ChatLlamaServer, LlamaServerLLM])
def test_adapters_by_name(kind: Any, lora_server: LocalServer) -> None:
    def said(llm: BaseLanguageModel[Any], **call: Any) -> Any:
        generation: Any = llm.generate_prompt([llm_prompt("Hi")], **call).generations[0][0]
        message = getattr(generation, "message", None)
        return message.response_metadata["logprobs"] if message else generation.generation_info["logprobs"]

    plain = kind(base_url=lora_server.base_url, **PLAIN)
    poet = kind(base_url=lora_server.base_url, lora={"poet": 1.0}, **PLAIN)
    assert said(plain) != said(poet) == said(plain, lora={"poet": 1.0})
    assert said(poet, lora={"poet": 0.0}) == said(plain)
    with pytest.raises(BadRequestError, match="pirate"):
        said(plain, lora={"sailor": 1.0})


def llm_prompt(text: str) -> Any:
    from langchain_core.prompt_values import StringPromptValue

    return StringPromptValue(text=text)
