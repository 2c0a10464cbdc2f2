"""What both long runs of agents share: the script of their model, the faults, and how many turns there are.

Each fault is followed by an ordinary turn that must succeed. `LONG_RUN_TURNS` sets the number of turns of one thread:
every day each fault once, with a template that refuses much, and 200 turns with another one too in `make test-long`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from llamacpp_server.testing import NextTokens
from tests.models import Script, tool_call

TURNS = int(os.environ.get("LONG_RUN_TURNS", "28"))

TEMPLATES = ["strict", "lenient"] if TURNS > 100 else ["strict"]

SCRIPTS = {
    "Call the tool": Script(says='{"a": 1, "b": 2}'),
    "hello": Script(says="Fine."),
    "cut off": Script(says=tool_call("add", '{"a": 1, "b": 234567}')),
    "both": Script(says=tool_call("add", '{"a": 1, "b": 2}') + "\n" + tool_call("ask", '{"question": "Well?"}')),
    "danger": Script(says=tool_call("danger", '{"path": "/"}')),
    "crash": Script(says=tool_call("crash", '{"why": "so"}')),
    "helper": Script(says=tool_call("ask", '{"question": "Well?"}')),
    "at length": Script(
        says="So one could go on and on, and say this and that, and never come to an end of it at all."
    ),
    "rather": Script(says=["Well, ", "so "], endless=True),
    "Well?": Script(says="Indeed."),
    "tool": Script(says="Done."),
    "user": Script(says="A summary."),
}
# As those of many models: the roles alternate, results of tools aside, and every call is one of JSON.
STRICT = (
    "{%- set seen = namespace(last='') -%}{%- for m in messages -%}"
    "{%- if m.role in ['user', 'assistant'] -%}"
    "{%- if m.role == seen.last and not (m.role == 'assistant' and m.tool_calls) -%}"
    "{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}{%- endif -%}"
    "{%- set seen.last = m.role -%}{%- elif m.role == 'system' and not loop.first -%}"
    "{{- raise_exception('System message must be at the beginning.') -}}{%- elif m.role == 'tool' -%}"
    "{%- set seen.last = 'tool' -%}{%- endif -%}{%- endfor -%}"
)


def strict_template(directory: Path) -> Path:
    """A chat template for the script that refuses what those of many models refuse."""
    path = directory / "strict.jinja"
    path.write_text(STRICT + NextTokens(SCRIPTS).template(), encoding="utf-8")
    return path


def faults(names: list[str]) -> Iterator[str]:
    """The faults of one run, over and over."""
    for turn in range(TURNS // 2):
        yield names[turn * 7 % len(names)]
