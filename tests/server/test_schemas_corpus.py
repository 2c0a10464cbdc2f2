"""Every schema of the corpus on the real server: refused as it is by some, taken by all once cleaned.

The server embedded in the newest wheel is asked always, and the llama-server binary where there is one. A wheel of
another time is asked where the variable TEST_OTHER_WHEEL_PYTHON names an interpreter that has it (such as one with
xllamacpp 0.2.4, which is b6900 of November 2025).
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import ChatRequest, LlamaServerError
from llamacpp_server._endpoints import (
    tools_at_fault,
)
from llamacpp_server._schemas import (
    clean_tools,
)
from llamacpp_server.local import (
    LocalServer,
    find_binary,
)
from llamacpp_server.transport import (
    Transport,
)
from tests.corpus import TOOLS
from tests.models import CHAT_TEMPLATE, build_random

Refusal = Callable[[Sequence[Any]], str | None]

# This one would not return for minutes: more characters at least than at most.
HANGS = {"nasty_lengths_crossed"}
CLEANED = clean_tools(TOOLS)[0]
CONTEXT = 16384


def name_of(tool: Any) -> str:
    return str(tool["function"]["name"])


def asker(server: LocalServer) -> Refusal:
    client = server.client()

    def refusal(tools: Sequence[Any]) -> str | None:
        user: Any = {"role": "user", "content": "hi"}
        # The server's own words about what we send, so nothing of ours may come between.
        body = {"tools": list(tools), "tool_choice": "required"}
        try:
            client.chat(ChatRequest(messages=[user], params={"max_tokens": 2}, extra_body=body))
        except LlamaServerError as error:
            # What two tokens can't be parsed as is no refusal of the schema; the second words are those of spring 2026.
            unread = "does not match the expected" in str(error) or "Failed to parse input at pos" in str(error)
            return None if unread else str(error)
        return None

    return refusal


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only the names of tools are in the prompt, so that all go into one request; the grammar has them whole."""
    full, names = "{{ tool.function | tojson }}", "{{ tool.function.name }}"
    assert full in CHAT_TEMPLATE
    path = tmp_path_factory.mktemp("corpus") / "names.gguf"
    return build_random(path, context_length=CONTEXT, chat_template=CHAT_TEMPLATE.replace(full, names))


@pytest.fixture(scope="module")
def newest(serve, model: Path) -> Refusal:
    return asker(serve(model, parallel=1, ctx_size=CONTEXT))


def test_the_corpus_is_large_and_its_names_are_distinct():
    assert len(TOOLS) >= 300
    assert len({name_of(tool) for tool in TOOLS}) == len(TOOLS)


def test_every_cleaned_schema_is_taken_alone(newest):
    assert {name_of(tool): words for tool in CLEANED if (words := newest([tool]))} == {}


def test_all_cleaned_schemas_are_taken_together(newest):
    assert newest(CLEANED) is None


def test_uncleaned_many_are_refused(newest):
    refused = [name_of(tool) for tool in TOOLS if name_of(tool) not in HANGS and newest([tool])]
    assert len(refused) >= 45, refused
    assert {"dashboard_patch", "files_upload", "sheet_chart", "linear_update"} <= set(refused)


def test_the_tools_to_blame_are_named(newest, serve, model):
    server = serve(model, parallel=1, ctx_size=CONTEXT)
    bad = {"nasty_true", "sheet_chart"}
    tools = [tool for tool in TOOLS[:60]] + [tool for tool in TOOLS if name_of(tool) in bad]
    tools = [tool for tool in tools if not newest([tool]) or name_of(tool) in bad]
    body = {"messages": [{"role": "user", "content": "hi"}], "tools": tools, "tool_choice": "required"}
    settings, transport = server.client().settings, Transport()
    try:
        assert set(transport.run(tools_at_fault(settings, body))) == bad
        assert transport.run(tools_at_fault(settings, {**body, "tools": tools[:3]})) == []
    finally:
        transport.close()


# -- tools that share the name of a definition


def test_two_tools_with_a_definition_of_one_name_get_grammars_of_their_own(newest):
    tools = {name_of(tool): tool for tool in CLEANED}
    assert newest([tools["whole_same_tree_1"], tools["whole_same_tree_2"]]) is None
    (one,), (other,) = (tools[f"whole_same_tree_{n}"]["function"]["parameters"]["$defs"] for n in (1, 2))
    assert one != other


# -- other builds


@pytest.mark.binary
def test_the_binary_takes_every_cleaned_schema(serve, model):
    assert find_binary() is not None
    refusal = asker(serve(model, parallel=1, ctx_size=CONTEXT, backend="binary"))
    assert refusal(CLEANED) is None
    assert {name_of(tool): words for tool in CLEANED if (words := refusal([tool]))} == {}


OTHER = os.environ.get("TEST_OTHER_WHEEL_PYTHON")

# Runs in the other interpreter: request bodies in, one line of JSON out for each. That wheel has no HTTP server.
_DRIVER = """
import json, os, sys, xllamacpp
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.use_jinja = sys.argv[1], int(sys.argv[2]), 1, True
server = xllamacpp.Server(params)
for line in sys.stdin:
    try:
        answer = server.handle_chat_completions(json.loads(line))
        answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        words = None if isinstance(answer, dict) and "choices" in answer else str(answer)
    except Exception as error:
        words = str(error)
    print(json.dumps(words), file=out, flush=True)
"""


@pytest.fixture(scope="module")
def other_wheel(model: Path) -> Iterator[Refusal]:
    assert OTHER is not None
    argv = [OTHER, "-c", _DRIVER, str(model), str(CONTEXT)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def refusal(tools: Sequence[Any]) -> str | None:
            body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "tools": list(tools)}
            server.stdin.write(json.dumps({**body, "tool_choice": "required"}) + "\n")
            server.stdin.flush()
            words = json.loads(server.stdout.readline() or '"it crashed"')
            return None if words is None else str(words)

        yield refusal
        server.stdin.close()


@pytest.mark.skipif(OTHER is None, reason="TEST_OTHER_WHEEL_PYTHON names no interpreter with another xllamacpp")
def test_another_wheel_takes_every_cleaned_schema(other_wheel):
    assert other_wheel(CLEANED) is None
    assert {name_of(tool): words for tool in CLEANED if (words := other_wheel([tool]))} == {}
