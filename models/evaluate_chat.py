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
    text = message["content"].partition(WEAK[0])[0]
    text = text.translate({ord(mark): None for mark in UNLEARNED}).strip()
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
