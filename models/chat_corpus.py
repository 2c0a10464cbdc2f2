"""All kinds of dialogues by weight, and how one becomes token ids with the weights of their losses."""

import json
import re
from pathlib import Path

import jinja2
from chat_context import context_question, json_answer, summary
from chat_data import UNLEARNED, WEAK, Dialogue, choose, recall, single
from chat_tokenizer import Tokenizer
from chat_tools import answer_from_result, call, no_fitting_tool, parallel, retrieval, structured
from chat_words import Words

TEMPLATE_PATH = Path(__file__).parents[1] / "llamacpp_server" / "testing" / "chat_template.jinja"

KINDS = [
    (1.6, single),
    (0.6, recall),
    (2.2, context_question),
    (0.2, summary),
    (1.3, json_answer),
    (2.6, call),
    (0.7, structured),
    (2.0, parallel),
    (1.5, answer_from_result),
    (0.6, retrieval),
    (1.1, no_fitting_tool),
]
_LEARNED = re.compile(r"<\|im_start\|>assistant\n(?:<think>\n)?(.*?<\|im_end\|>)", re.DOTALL)
_MARKS = {UNLEARNED[0]: 0.0, WEAK[0]: 0.05, UNLEARNED[1]: 1.0, WEAK[1]: 1.0}


def _environment() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(TEMPLATE_PATH.read_text(encoding="utf-8"))


_TEMPLATE = _environment()


def dialogue(words: Words) -> Dialogue:
    """One dialogue of any kind."""
    return choose(KINDS, words)


def rendered(one: Dialogue) -> str:
    """The text that the chat template makes, with the marks of what is not learned still in it."""
    return _TEMPLATE.render(messages=one.messages, tools=one.tools, enable_thinking=one.thinking)


def clean(text: str) -> str:
    """Without the marks."""
    return "".join(letter for letter in text if letter not in _MARKS)


def encode(text: str, tokenizer: Tokenizer) -> tuple[list[int], list[float]]:
    """Token ids, and how much each of them is learned: only what the assistant says."""
    weights: list[float] = []
    learned = [0.0] * len(text)
    for match in _LEARNED.finditer(text):
        learned[match.start(1) : match.end(1)] = [1.0] * (match.end(1) - match.start(1))
    level = 1.0
    letters: list[str] = []
    for letter, weight in zip(text, learned, strict=True):
        if letter in _MARKS:
            level = _MARKS[letter]
        else:
            letters.append(letter)
            weights.append(weight * level)
    ids, offsets = tokenizer.encode("".join(letters))
    return ids, [weights[offset] for offset in offsets]
