"""Calls that a model wrote as text, in the formats of current families."""

import json

import pytest

from llamacpp_server import ChatDelta, ToolCallFragment, fold_chat
from llamacpp_server._tools import TextCallFilter, find_text_calls, without_calls


def tool(name, **properties):
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}


TOOLS = [
    tool("get_weather", city={"type": "string"}, days={"type": "integer"}),
    tool("add", a={"type": "integer"}, b={"type": "integer"}),
]
ARGS = {"city": "Oslo", "days": 3}
JSON = '{"city": "Oslo", "days": 3}'
ONE = '{"name": "get_weather", "arguments": ' + JSON + "}"
BAR = "\uff5c"  # DeepSeek's
FORMATS = {
    "Hermes, Qwen": f"<tool_call>\n{ONE}\n</tool_call>",
    "Hermes without its end": f"<tool_call>\n{ONE}",
    "Qwen3-Coder": "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n"
    "</parameter>\n</function>\n</tool_call>",
    "Qwen3-Coder without its outer tag": "<function=get_weather><parameter=city>Oslo</parameter>"
    "<parameter=days>3</parameter></function>",
    "Mistral": f"[TOOL_CALLS][{ONE}]",
    "Mistral Small 3.2": f"[TOOL_CALLS]get_weather[ARGS]{JSON}",
    "Mistral with an id": f"[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{JSON}",
    "Llama 3 python tag": '<|python_tag|>{"name": "get_weather", "parameters": ' + JSON + "}<|eom_id|>",
    "Llama 3 bare": '{"type": "function", "name": "get_weather", "parameters": ' + JSON + "}",
    "Llama 3 function": f"<function=get_weather>{JSON}</function>",
    "in a code fence": f"```json\n{ONE}\n```",
    "OpenAI's object": '{"type": "function", "function": {"name": "get_weather", "arguments": '
    + json.dumps(JSON) + "}}",
    "DeepSeek R1": f"<{BAR}tool▁calls▁begin{BAR}><{BAR}tool▁call▁begin{BAR}>function<{BAR}tool▁sep{BAR}>get_weather\n"
    f"```json\n{JSON}\n```<{BAR}tool▁call▁end{BAR}><{BAR}tool▁calls▁end{BAR}>",
    "DeepSeek V3.1": f"<{BAR}tool▁calls▁begin{BAR}><{BAR}tool▁call▁begin{BAR}>get_weather<{BAR}tool▁sep{BAR}>{JSON}"
    f"<{BAR}tool▁call▁end{BAR}><{BAR}tool▁calls▁end{BAR}>",
    "Kimi K2": "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    f"{JSON}<|tool_call_end|><|tool_calls_section_end|>",
    "GLM 4.5": "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
    "<arg_value>3</arg_value>\n</tool_call>",
    "harmony": f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{JSON}<|call|>",
    "functionary": f">>>get_weather\n{JSON}",
    "Granite": f"<|tool_call|>[{ONE}]",
    "MiniMax": '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Oslo</parameter>\n'
    '<parameter name="days">3</parameter>\n</invoke>\n</minimax:tool_call>',
    "Nemotron": f"<TOOLCALL>[{ONE}]</TOOLCALL>",
    "Jamba": f"<tool_calls>[{ONE}]</tool_calls>",
    "Phi 4": f"functools[{ONE}]",
    "Cohere": '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_weather", "parameters": '
    + JSON + "}]<|END_ACTION|>",
    "Llama 4": '[get_weather(city="Oslo", days=3)]',
    "Llama 3.2 behind the tag": "<|python_tag|>get_weather(city='Oslo', days=3)<|eom_id|>",
    "LFM2": '<|tool_call_start|>[get_weather(city="Oslo", days=3)]<|tool_call_end|>',
    "FunctionGemma": "<start_function_call>call:get_weather{city:<escape>Oslo<escape>,days:3}<end_function_call>",
    "FunctionGemma before its result": "<start_function_call>call:get_weather{days:3,city:<escape>Oslo<escape>}"
    "<end_function_call><start_function_response>",
    "FunctionGemma without its marks": "call:get_weather{city:Oslo,days:3}",
    "Gemma 4": '<|tool_call>call:get_weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>',
    "Gemma 4 with JSON in it": '<|tool_call>call:get_weather{"city": "Oslo", "days": 3}<tool_call|>',
    "DeepSeek V3.2": f'<{BAR}DSML{BAR}function_calls>\n<{BAR}DSML{BAR}invoke name="get_weather">\n'
    f'<{BAR}DSML{BAR}parameter name="city" string="true">Oslo</{BAR}DSML{BAR}parameter>\n'
    f'<{BAR}DSML{BAR}parameter name="days" string="false">3</{BAR}DSML{BAR}parameter>\n'
    f"</{BAR}DSML{BAR}invoke>\n</{BAR}DSML{BAR}function_calls>",
    "DeepSeek V3.2 with JSON": f'<{BAR}DSML{BAR}tool_calls><{BAR}DSML{BAR}invoke name="get_weather">{JSON}'
    f"</{BAR}DSML{BAR}invoke></{BAR}DSML{BAR}tool_calls>",
    "ReAct": f"Action: get_weather\nAction Input: {JSON}\nObservation:",
    "ReAct in Markdown": f"**Action:** `get_weather`\n**Action Input:**\n```json\n{JSON}\n```",
    "Gemma": '```tool_code\nget_weather(city="Oslo", days=3)\n```',
}  # fmt: skip


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_a_call_in_the_format_of_each_family_is_read(text):
    (call,) = find_text_calls(text, TOOLS)
    assert (call.name, json.loads(call.arguments)) == ("get_weather", ARGS)
    assert without_calls(text, [call]) == ""


def test_several_calls_are_all_read():
    add = '{"name": "add", "arguments": {"a": 1, "b": 2}}'
    for text in (f"<tool_call>{ONE}</tool_call>\n<tool_call>{add}</tool_call>", f"[TOOL_CALLS][{ONE}, {add}]",
                 f"[{ONE}, {add}]", f"{ONE}; {add}", f"<tool_call>{ONE}\n{add}</tool_call>"):  # fmt: skip
        assert [call.name for call in find_text_calls(text, TOOLS)] == ["get_weather", "add"], text
        assert without_calls(text, find_text_calls(text, TOOLS)) == "", text


@pytest.mark.parametrize(
    "text",
    [
        "It is sunny.",
        '{"city": "Oslo", "days": 3}',
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        f"You would write {ONE} for that, or call get_weather yourself.",
        f"{ONE} is how one writes a call.",
        '{"name": "get_weather"}',
        "You can say call:get_weather{city:Oslo,days:3} for that.",
        "call:get_weather{city:Oslo",
        "call:unknown{city:Oslo}",
        "Action: get_weather, as soon as the sun is up.",
        "Action: unknown\nAction Input: {}",
        '{"name": "get_weather", "arguments": "no JSON"}',
        '<tool_call>{"name": "get_weather", "arguments": {"city": "Os',
        "<function=get_weather>what it does</function>",
        "[1, 2]",
        "[]",
        "[" * 5000,
        "to=functions.get_weather and then",
    ],
)
def test_ordinary_text_is_not_a_call(text):
    assert find_text_calls(text, TOOLS) == []


def test_texts_of_tags_stay_texts():
    text = "<function=get_weather><parameter=city>007</parameter><parameter=days>007</parameter></function>"
    assert json.loads(find_text_calls(text, TOOLS)[0].arguments) == {"city": "007", "days": "007"}


# -- in a reply


def passed(pieces, *, take, thinking=(), calls=(), finish="stop"):
    one = TextCallFilter(TOOLS, take=take)
    deltas = [*(ChatDelta(reasoning_content=t) for t in thinking), *map(ChatDelta, pieces)]
    deltas += [*(ChatDelta(tool_calls=(c,)) for c in calls), ChatDelta(finish_reason=finish)]
    out = [made for delta in deltas for made in one.add([delta])] + one.end()
    return out, fold_chat(out)


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_call_in_the_text_becomes_a_call_however_the_stream_is_split(text, size):
    full = f"Let me look.\n{text}" if not text.startswith(("{", "```", "[get", "call:")) else text
    _, reply = passed([full[at : at + size] for at in range(0, len(full), size)], take=True)
    assert [(c.name, json.loads(c.arguments)) for c in reply.tool_calls] == [("get_weather", ARGS)]
    assert reply.content.strip() == ("Let me look." if full != text else "")
    assert (reply.finish_reason, reply.start.repairs[0].name) == ("tool_calls", "text_call")
    assert len({call.id for call in reply.tool_calls} - {""}) == 1


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_a_call_in_the_text_is_reported_and_left_as_it_is_by_default(text):
    pieces = list(text)
    deltas, reply = passed(pieces, take=False)
    assert (reply.content, reply.tool_calls, reply.finish_reason) == (text, (), "stop")
    assert [delta.content for delta in deltas[:-1]] == pieces, "nothing is held back"
    (repair,) = reply.start.repairs
    assert repair.name == "text_call"
    assert "parse_text_calls=True" in repair.what


def test_ordinary_text_flows_while_calls_are_looked_for():
    pieces = ["The answer", " is a < b", " and [see", " this] to", " the end >>", " of it."]
    deltas, reply = passed(pieces, take=True)
    assert reply.content == "".join(pieces)
    assert "".join(delta.content for delta in deltas[:-1]) == reply.content, "before the end of the reply"
    assert not reply.start.repairs


def test_text_that_only_looks_like_a_call_stays_text():
    for text in ("{'a': 1}", "<tool_call>nothing</tool_call>", "[TOOL_CALLS] none"):
        assert passed(list(text), take=True)[1].content == text


def test_the_thinking_counts_only_in_a_reply_without_text():
    assert passed([], take=True, thinking=[FORMATS["GLM 4.5"]])[1].tool_calls[0].name == "get_weather"
    reply = passed(["No."], take=True, thinking=[FORMATS["GLM 4.5"]])[1]
    assert (reply.tool_calls, reply.content) == ((), "No.")


def test_where_the_server_parsed_a_call_the_text_is_text():
    call = ToolCallFragment(0, "1", "add", "{}")
    _, reply = passed(["Not <tool_call>", ONE], take=True, calls=[call])
    assert [c.name for c in reply.tool_calls] == ["add"]
    assert reply.content == f"Not <tool_call>{ONE}"


# -- where a call is demanded


def demanded(text, forced="add", finish="stop"):
    one = TextCallFilter(TOOLS, take=False, forced=forced)
    return fold_chat(
        [made for delta in [*map(ChatDelta, text), ChatDelta(finish_reason=finish)] for made in one.add([delta])]
    )


ALONE = '{"a": 1, "b": 2}'


@pytest.mark.parametrize("text", [ALONE, f"```json\n{ALONE}\n```", f"{ALONE}\n\nI added, and"])
def test_an_answer_that_begins_with_the_arguments_of_the_required_tool_is_its_call(text):
    reply = demanded(text)
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] == [("add", {"a": 1, "b": 2})]
    assert (reply.content, reply.finish_reason) == ("", "tool_calls")


@pytest.mark.parametrize(
    ("text", "forced"),
    [('{"a": "x"}', "add"), ('{"z": 1}', "add"), ('{"a": 1}', "required"), ('{"a": 1', "add"), ("[1]", "add"),
     ("So: {}", "add")],
)  # fmt: skip
def test_what_does_not_fit_the_required_tool_stays_text(text, forced):
    reply = demanded(text, forced)
    assert (reply.content, reply.tool_calls) == (text, ())


def test_a_required_call_in_another_format_is_accepted():
    assert demanded(FORMATS["Qwen3-Coder"], "get_weather").tool_calls[0].name == "get_weather"


def test_one_required_answer_is_over_with_its_arguments():
    one = TextCallFilter(TOOLS, take=False, forced="add")
    (made,) = [delta for piece in ('{"a": 1', ', "b": 2}') for delta in one.add([ChatDelta(piece)])]
    assert (one.over, made.tool_calls[0].name, made.finish_reason) == (True, "add", "tool_calls")
    several = TextCallFilter(TOOLS, take=False, forced="add", answers=2)
    assert not [delta for delta in several.add([ChatDelta('{"a": 1, "b": 2}')]) if delta.tool_calls]
    assert not several.over


def test_python_is_read_and_never_run():
    listed = tool("add", a={}, b={})
    values = "[add(a=[1, -2.5, true, None], b={'x': ('y', null)}), add()]"
    first, second = find_text_calls(values, [listed])
    assert json.loads(first.arguments) == {"a": [1, -2.5, True, None], "b": {"x": ["y", None]}}
    assert second.arguments == "{}"
    for code in (
        "[add(a=open('x'))]", "[add(1)]", "[add(**{'a': 1})]", "[add(a=1).b()]", "[other(a=1)]", "[add(a=b'x')]",
        "[add(a=1j)]", "[add(a={1: 2})]", "[add(a=...)]", "[add(a=1) for _ in x]", "I would write [add(a=1)].",
        "```python\nadd(a=1)\n```", "[add(" + "[" * 3000 + ")]", "<|tool_call_start|>[add(a=1, add(a=2)]",
    ):  # fmt: skip
        assert find_text_calls(code, [listed]) == [], code


def test_values_of_braces_may_hold_commas_lists_and_objects():
    at = "{x:1,tags:[<escape>a<escape>,b,2.5]}"
    quoted = f"<start_function_call>call:place{{where:<escape>Oslo, a:b {{x}}<escape>,at:{at},on:true}}"
    (call,) = find_text_calls(quoted, [tool("place", where={"type": "string"})])
    assert json.loads(call.arguments) == {
        "where": "Oslo, a:b {x}",
        "at": {"x": 1, "tags": ["a", "b", 2.5]},
        "on": True,
    }
    (call,) = find_text_calls("call:place{where: Oslo, Norway, code: 12}", [tool("place", code={"type": "string"})])
    assert json.loads(call.arguments) == {"where": "Oslo, Norway", "code": "12"}
