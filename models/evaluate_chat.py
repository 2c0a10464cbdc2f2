"""Measure `tiny-chat.gguf` on a real server: `python models/evaluate_chat.py --count 100` (with the extra `embedded`).

Every prompt is made of names, places and words that no training dialogue holds. An answer counts only if it is exactly
the expected one: the same text, or the same calls with the same arguments, in the same order.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from chat_context import context_question, json_answer
from chat_data import UNLEARNED, WEAK, Dialogue, Message, dumps, recall, single, words_of
from chat_tools import answer_from_result, call, no_fitting_tool, parallel, retrieval, structured
from chat_words import Words

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from llamacpp_server import LocalServer  # noqa: E402

Maker = Callable[[Words], Dialogue]


def _only(make: Maker, accept: Callable[[Dialogue], bool]) -> Maker:
    """Make dialogues until one is accepted."""

    def made(words: Words) -> Dialogue:
        while True:
            dialogue = make(words)
            if accept(dialogue):
                return dialogue

    return made


def _kind(kind: str, make: Maker, *, thinking: bool | None = False) -> Maker:
    return _only(make, lambda d: d.kind == kind and thinking in (None, d.thinking))


def _context(count: int, *, thinking: bool) -> Maker:
    return lambda words: context_question(words, count, thinking=thinking)


BEHAVIOURS: dict[str, Maker] = {
    "greeting": _kind("greet", single),
    "name told back": _kind("introduce", single),
    "echo": _kind("echo", single),
    "memory over turns": _kind("recall", recall),
    "joke": _kind("joke", single),
    "context, 1 fact": _context(1, thinking=False),
    "context, 2 facts": _context(2, thinking=False),
    "context, 3 facts": _context(3, thinking=False),
    "context, 3 facts, thinking": _context(3, thinking=True),
    "tool call": _kind("call", call),
    "tool call, thinking": _kind("call", call, thinking=True),
    "2 calls in one turn": _kind("2 calls", parallel),
    "3 calls in one turn": _kind("3 calls", parallel),
    "structured output by a call": _kind("structured call", structured),
    "JSON under a schema": json_answer,
    "answer from a result": _kind("result", answer_from_result),
    "answer from several results": _kind("results", answer_from_result),
    "retrieval tool": _kind("retrieval", retrieval),
    "no fitting tool": _kind("no tool", no_fitting_tool),
}


def _function(name: str, description: str, /, **kinds: str) -> dict[str, Any]:
    properties = {parameter: {"type": kind} for parameter, kind in kinds.items()}
    schema = {"properties": properties, "required": list(properties), "type": "object"}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


_MAGIC = _function("magic_function", "Apply a magic function to an input.", input="integer")
_WEATHER = _function("get_weather", "", location="string")
_CUSTOMER = _function(
    "unicode_customer",
    "Tool for creating a customer with Unicode name.\n\n    Args:\n        customer_name: The customer's name in their "
    "native language.\n        description: Description of the customer.\n\n    Returns:\n        A confirmation "
    "message about the customer creation.",
    customer_name="string",
    description="string",
)
_STYLE = _function(
    "greeting_generator", "Generate a greeting in a particular style of speaking.", answer_style="string"
)
SUITE: list[tuple[str, list[dict[str, Any]], str, str]] = [
    ("What is the value of magic_function(3)? Use the tool.", [_MAGIC], "required", '"magic_function", {"input": 3}'),
    (
        "What is the value of magic_function_no_args()? Use the tool.",
        [_function("magic_function_no_args", "Calculate a magic function.")],
        "required",
        '"magic_function_no_args", {}',
    ),
    ("Using the tool, generate a Pirate greeting.", [_STYLE], "required", '{"answer_style": "Pirate"}'),
    ("Hello!", [_MAGIC, _WEATHER], "required", ""),
    ("Hello!", [_MAGIC], "required", "magic_function"),
    ("What is the weather in San Francisco, CA?", [_WEATHER], "auto", '{"location": "San Francisco, CA"}'),
    (
        "Create a customer named '你好啊集团' (Hello Group) - a Chinese technology company",
        [_CUSTOMER],
        "required",
        "你好啊集团",
    ),
    (
        "Create a customer named 'こんにちは株式会社' (Hello Corporation) - a Japanese company",
        [_CUSTOMER],
        "required",
        "こんにちは株式会社",
    ),
    (
        "What is 3 + 4",
        [_function("my_adder_tool", "Tool that adds two integers.", a="integer", b="integer")],
        "required",
        '{"a": 3, "b": 4}',
    ),
]
"""Prompts of LangChain's standard suite: the user's words, the tools, the choice, and what the call must hold."""


def suite(base_url: str) -> Iterator[tuple[str, bool, str]]:
    """Each prompt of the suite, whether its call is right, and the call."""
    for asked, tools, choice, wanted in SUITE:
        body = {
            "messages": [{"role": "user", "content": asked}],
            "tools": tools,
            "tool_choice": choice,
            "max_tokens": 300,
            "temperature": 0,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        response = httpx.post(f"{base_url}/v1/chat/completions", json=body, timeout=60)
        message = response.json()["choices"][0]["message"] if response.is_success else {}
        calls = said(message) if message.get("tool_calls") else []
        shown = dumps(calls)[1:-1] or message.get("content", response.text)[:80]
        yield asked, len(calls) == 1 and wanted in shown, shown


def wire(messages: list[Message]) -> list[Message]:
    """Messages as they go over HTTP: calls with ids and with arguments as text."""
    sent: list[Message] = []
    pending: list[str] = []
    for n, message in enumerate(messages):
        copy = dict(message)
        if isinstance(copy.get("content"), str):
            copy["content"] = copy["content"].translate({ord(mark): None for mark in (*UNLEARNED, *WEAK)})
        if copy.get("tool_calls"):
            pending = [f"call_{n}_{m}" for m in range(len(copy["tool_calls"]))]
            copy["tool_calls"] = [
                {
                    **one,
                    "id": identifier,
                    "function": {**one["function"], "arguments": dumps(one["function"]["arguments"])},
                }
                for one, identifier in zip(copy["tool_calls"], pending, strict=True)
            ]
        if copy["role"] == "tool":
            copy["tool_call_id"] = pending.pop(0)
        sent.append(copy)
    return sent


def ask(client: httpx.Client, dialogue: Dialogue) -> Message:
    """The server's answer to a dialogue."""
    body: dict[str, Any] = {
        "messages": wire(dialogue.prompt),
        "temperature": 0,
        "max_tokens": 300,
        "chat_template_kwargs": {"enable_thinking": dialogue.thinking},
    }
    if dialogue.tools:
        body["tools"] = dialogue.tools
    if dialogue.schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": dialogue.schema}}
    response = client.post("/v1/chat/completions", json=body)
    message: Message = response.json()["choices"][0]["message"] if response.is_success else {"content": response.text}
    return message


def said(message: Message) -> Any:
    """What is compared: the calls if there are any, else the text."""
    if message.get("tool_calls"):
        return [(one["function"]["name"], _parsed(one["function"]["arguments"])) for one in message["tool_calls"]]
    text = message["content"]
    if not text.startswith(WEAK[0]):  # what opens the answer is a part of it, and not another one behind it
        text = text.partition(WEAK[0])[0]
    text = text.translate({ord(mark): None for mark in (*UNLEARNED, *WEAK)}).strip()
    return _parsed(text) if text.startswith("{") else text


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError:
        return text


def evaluate(base_url: str, count: int, seed: int, show: int) -> Iterator[tuple[str, int]]:
    """The number of right answers of each behaviour."""
    # A server closes idle connections; a new one for each request is no cost here.
    with httpx.Client(base_url=base_url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0)) as client:
        for name, make in BEHAVIOURS.items():
            words = words_of(seed, held_out=True)
            right = wrong = 0
            for _ in range(count):
                dialogue = make(words)
                expected, answer = said(dialogue.messages[-1]), said(ask(client, dialogue))
                right += answer == expected
                wrong += answer != expected
                if answer != expected and wrong <= show:
                    print(
                        f"--- {name}: {dialogue.prompt[-1]['content'][-300:]}\nexpected {expected}\nanswered {answer}"
                    )
            yield name, right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "tiny-chat.gguf")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1_000_003)
    parser.add_argument("--show", type=int, default=0, help="wrong answers to print of each behaviour")
    arguments = parser.parse_args()
    with LocalServer(arguments.model, ctx_size=4096, parallel=1, threads=1, warmup=False) as server:
        print("| behaviour | right |\n|---|---|")
        for behaviour, rights in evaluate(server.base_url, arguments.count, arguments.seed, arguments.show):
            print(f"| {behaviour} | {100 * rights // arguments.count} % |", flush=True)
        for question, is_right, shown_call in suite(server.base_url):
            print("right" if is_right else "WRONG", question, "->", shown_call)
