"""Any value of any argument of one call is sent, or refused by a typed error, in the classes of both frameworks."""

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage

import langchain_llamacpp_server as langchain
from llamacpp_server import LlamaServerError
from llamaindex_llamacpp_server import LlamaServer

NOWHERE: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "max_retries": 0}
HI = [ChatMessage(role="user", content="hi")]
NAMES = (
    *("extra_headers", "extra_query", "extra_body", "timeout", "read_timeout", "total_timeout", "priority"),
    *("stop", "tools", "tool_choice", "model", "n", "thinking", "cache_salt", "history_repair", "read_files", "strict"),
    *("fetch_urls", "stream_options", "stream_usage", "loop_limit", "max_thinking_seconds", "reasoning", "format"),
    *("num_predict", "response_format", "choice_probabilities", "forced_call_within", "functions", "split_n"),
    *("dimensions", "parallel_tool_calls", "disabled_params", "schema_in_prompt", "on_progress"),
)  # fmt: skip
ODD = (5, -1, "x", [], [5], (), object(), {"X": 5}, {5: "a"}, {"x": {1}}, b"x")
ENTRIES: dict[str, Callable[..., Any]] = {
    "langchain chat": lambda **given: langchain.ChatLlamaServer(**NOWHERE).invoke("hi", **given),
    "langchain stream": lambda **given: list(langchain.ChatLlamaServer(**NOWHERE).stream("hi", **given)),
    "langchain fits": lambda **given: langchain.ChatLlamaServer(**NOWHERE).fits("hi", **given),
    "langchain llm": lambda **given: langchain.LlamaServerLLM(**NOWHERE).invoke("hi", **given),
    "langchain embed": lambda **given: langchain.LlamaServerEmbeddings(**NOWHERE).embed_query("hi", **given),
    "llamaindex chat": lambda **given: LlamaServer(**NOWHERE).chat(HI, **given),
    "llamaindex complete": lambda **given: LlamaServer(**NOWHERE).complete("hi", formatted=True, **given),
    "llamaindex infill": lambda **given: LlamaServer(**NOWHERE).infill("a", "b", **given),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_any_argument_of_a_call_is_sent_or_refused_by_a_typed_error(entry: str) -> None:
    faults = {}
    for number, name in enumerate(NAMES):
        for odd in (*ODD[number % 3 :: 3], 5):
            try:
                ENTRIES[entry](**{name: odd})
            except LlamaServerError:
                continue
            except Exception as error:  # every fault is shown, not the first alone
                faults[name, repr(odd)[:20]] = f"{type(error).__name__}: {error!s:.80}"
    assert faults == {}
