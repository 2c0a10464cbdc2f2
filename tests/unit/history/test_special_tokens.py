"""Special tokens in what others say: found in any text, broken up wherever they stand, and joined again in replies."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_server import ChatDelta, ChatReply, LlamaServerError
from llamacpp_server._history import (
    JOINER,
    break_items,
    break_tokens,
    candidates_in,
    candidates_in_items,
    holds_broken,
    holds_candidates,
    is_tag,
    is_usual,
    joined_again,
    special_among,
    template_tags,
)
from llamacpp_server._replies import (
    BrokenTokenFilter,
)
from llamacpp_server.replies import ChatChoice, ToolCall, ToolCallFragment

SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>", "<|eot_id|>",
    "<\uff5cUser\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "[TOOL_CALLS]", "[gMASK]", "<|\"|>", "<|turn>",
    "<turn|>", "[|endofturn|]", "]~b]", "]~!b[", "[e~[", "]<]image[>[", ">>TITLE<<", "|||EMAIL_ADDRESS|||",
    "<seed:bos>",
)  # fmt: skip
TAGS = frozenset({"<think>", "<tool_call>", "<function="})
texts = st.lists(
    st.sampled_from([*SPECIAL, *TAGS, "<", ">", "[", "]", "|", "|>", "<|", "im_end", JOINER, "\n", " ", "x", "/"])
    | st.text(max_size=4),
    max_size=8,
).map("".join)


def broken(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return break_tokens(messages, SPECIAL, tags_in(messages))[0]  # type: ignore[arg-type]


def tags_in(messages: Any) -> set[str]:
    return {token for token in candidates_in(messages) if is_tag(token, TAGS)}


def forged(text: str) -> list[str]:
    """As llama.cpp looks for them: anywhere in the text."""
    return [token for token in SPECIAL if token in text]


@given(texts)
def test_no_text_keeps_a_special_token(text: str) -> None:
    for message in ({"role": "user", "content": text}, {"role": "tool", "content": text, "tool_call_id": "a"}):
        (sent, _) = broken(message, {"role": "user", "content": "And?"})
        assert forged(sent["content"]) == []
        assert sent["content"].replace(JOINER, "") == text.replace(JOINER, "")


@given(texts, st.lists(st.integers(0, 60), max_size=4))
def test_no_token_is_put_together_from_the_parts_of_a_message(text: str, cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [{"type": "text", "text": text[a:b]} for a, b in pairwise(places)]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,<s>"}}
    (sent, _) = broken({"role": "user", "content": [*parts, image]}, {"role": "user", "content": "And?"})
    assert forged("".join(part.get("text", "") for part in sent["content"])) == []
    assert sent["content"][-1] is image


@given(texts, st.booleans())
def test_no_argument_of_a_call_keeps_a_special_token_however_it_is_spelled(text: str, ascii_only: bool) -> None:
    arguments = json.dumps({"text": [text, {text: 1}]}, ensure_ascii=ascii_only).replace("<", "\\u003c")
    call = {"id": text, "type": "function", "function": {"name": "say", "arguments": arguments}}
    sent, _ = broken({"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "", "tool_call_id": text})
    (made,) = sent["tool_calls"]
    assert forged(json.dumps(json.loads(made["function"]["arguments"]), ensure_ascii=False).replace('\\"', '"')) == []
    assert forged(made["id"]) == []


@given(texts, st.booleans())
def test_a_candidate_in_a_call_is_found_however_it_is_spelled(text: str, ascii_only: bool) -> None:
    for escaped in ("<", "\\u003c"):
        arguments = json.dumps({"text": text, text: 1}, ensure_ascii=ascii_only).replace("<", escaped)
        call = {"id": "a", "type": "function", "function": {"name": "say", "arguments": arguments}}
        messages: Any = [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "content": "x"}]
        in_text = candidates_in([{"role": "user", "content": text}])
        assert in_text <= candidates_in(messages)
        assert holds_candidates(messages) or not in_text
        assert holds_broken(messages) == any(
            holds_broken([{"role": "user", "content": said}]) for said in (text, arguments)
        )


@pytest.mark.parametrize("key", ["id", "name", "more"])
def test_a_candidate_in_any_other_part_of_a_call_is_found(key: str) -> None:
    function = {"name": "say", "arguments": "{}"}
    call: dict[str, Any] = {"id": "a", "type": "function", "function": function}
    (function if key == "name" else call)[key] = "<|im_end|>"
    messages: Any = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "content": "x"}]
    assert "<|im_end|>" in candidates_in(messages)


@given(texts)
def test_what_is_broken_is_joined_again_wherever_the_reply_is_cut(text: str) -> None:
    text = text.replace(JOINER, "")
    sent = broken({"role": "user", "content": text})[0]["content"]
    assert joined_again(sent) == text
    for size in (1, 2, 5):
        deltas = [
            ChatDelta(
                sent[at : at + size], sent[at : at + size], (ToolCallFragment(0, arguments=sent[at : at + size]),)
            )
            for at in range(0, len(sent), size)
        ]
        joining = BrokenTokenFilter()
        made = [*joining.add(deltas[:3]), *joining.add(deltas[3:]), *joining.end()]
        for said in (
            "".join(delta.content for delta in made),
            "".join(delta.reasoning_content for delta in made),
            "".join(call.arguments for delta in made for call in delta.tool_calls),
        ):
            assert said == text


def test_a_joiner_alone_makes_no_delta_and_a_partial_reply_is_joined_too() -> None:
    joining = BrokenTokenFilter()
    assert joining.add([ChatDelta("<"), ChatDelta(JOINER), ChatDelta("s>")]) == [ChatDelta("<"), ChatDelta("s>")]
    assert joining.add([ChatDelta(JOINER + "family")]) == [ChatDelta("family")], "it follows an angle bracket"
    call = ToolCall("a", "say", '{"text": "<' + JOINER + 's>"}')
    partial_reply = ChatReply((ChatChoice("<" + JOINER + "s>", "[" + JOINER + "INST]", (call,)),))
    cut = LlamaServerError("cut off")
    cut.partial = partial_reply
    error = joining.with_partial(cut)
    assert error.partial == ChatReply((ChatChoice("<s>", "[INST]", (ToolCall("a", "say", '{"text": "<s>"}'),)),))


def test_the_same_message_is_the_same_on_every_later_turn() -> None:
    history: list[dict[str, Any]] = [
        {"role": "system", "content": "You see <|im_end|>."},
        {"role": "user", "content": "<|im_end|> <think> <function=rm>", "name": "<s>"},
        {"role": "assistant", "content": "<think>Hm.</think> <|im_end|> <tool_call>", "reasoning_content": "<think>"},
        {"role": "tool", "content": [{"type": "text", "text": "[INST]"}], "tool_call_id": "a"},
    ]
    later = [*history, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "<s>"}]
    once = broken(*history)
    assert broken(*later)[: len(history)] == once
    assert broken(*once) == once
    assert holds_broken(once)
    assert not holds_broken(history)
    assert once[0] is history[0], "a system message is the program's own"
    assert once[1]["content"] == f"<{JOINER}|im_end|> <{JOINER}think> <{JOINER}function=rm>"
    assert once[1]["name"] == f"<{JOINER}s>"
    assert once[2]["content"] == f"<think>Hm.</think> <{JOINER}|im_end|> <{JOINER}tool_call>"
    assert once[2]["reasoning_content"] == f"<{JOINER}think>"
    assert once[3]["content"] == [{"type": "text", "text": f"[{JOINER}INST]"}]


def test_a_token_that_the_template_would_complete_is_broken_too() -> None:
    for text, sent in (("go [/INST", f"go [{JOINER}/INST"), ("<|im_end|", f"<{JOINER}|im_end|"), ("<b", "<b")):
        message = {"role": "tool", "content": text, "tool_call_id": "a"}
        assert broken(message)[0]["content"] == sent
        assert joined_again(sent) == text


def test_an_answer_that_is_to_be_continued_is_the_programs_own() -> None:
    prefill = {"role": "assistant", "content": "<think>\n<|im_end|>"}
    assert broken({"role": "user", "content": "Hi"}, prefill)[1] is prefill
    assert candidates_in([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<s>"}]) == set()


def test_a_repair_names_the_message_and_not_what_is_in_it() -> None:
    messages: Any = [{"role": "user", "content": "mine <s>"}, {"role": "user", "content": "<b>"}]
    _, repairs = break_tokens(messages, SPECIAL, tags_in(messages))
    assert [(repair.name, repair.where) for repair in repairs] == [("special_tokens", "messages[0]")]
    assert "mine" not in str(repairs)


def test_text_without_anything_of_that_form_has_no_candidates() -> None:
    plain = "if a < b and c > d: x = y[0]  # 1 <= 2, [a b], <not a tag>, e-mail <me @ home>, 'a' || 'b' ~ c >> d"
    assert candidates_in([{"role": "user", "content": plain}]) == set()
    html = "<div><p>Hello <b>you</b></p></div> list[int] vector<int>"
    assert candidates_in([{"role": "user", "content": html}]) == {
        "<div>", "<p>", "<b>", "</b>", "</p>", "</div>", "[int]", "<int>",
    }  # fmt: skip


ODD: list[Any] = [
    None,
    3,
    "text",
    [],
    {"role": "user", "content": [None, 3, {"type": "text"}]},
    {"content": {"a": "<s>"}},
    {"role": "assistant", "tool_calls": [None, {"function": 3}]},
    {"role": "assistant", "tool_calls": [{"function": {"arguments": 3}}], "content": None},
]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_messages_of_an_odd_shape_are_left_to_those_who_refuse_them(odd: Any) -> None:
    messages = [odd, {"role": "user", "content": "<s>"}]
    assert candidates_in(messages) >= {"<s>"}
    assert broken(*messages)[0] == odd


def test_only_the_tags_of_a_template_count_and_not_its_code() -> None:
    template = (
        "{%- for m in messages if loop.index0<3 %}{{ bos_token }}[INST] {{ messages[i]['role'] }}"
        "{{ tools[loop.index] }}"
        "<think>{{ m.reasoning }}</think>{{ '<function=' + m.name + '>' }}[/INST]]~b]ai\n{% endfor %}"
    )
    tags = template_tags(template)
    assert tags >= {"[INST]", "[/INST]", "<think>", "</think>", "<function=", "]~b]", "<__media__>"}
    assert not {tag for tag in tags if "role" in tag or "index" in tag}
    assert is_tag("<function=get_weather>", tags)
    assert not is_tag("<function>", tags)


def test_special_is_what_is_one_token_only_when_it_is_parsed() -> None:
    parsed = ["<|im_end|>", "\n", "<", "div", ">", "\n", "<think>"]
    unparsed = ["<", "|im", "_end", "|>", "\n", "<", "div", ">", "\n", "<think>"]
    assert special_among(["<|im_end|>", "<div>", "<think>"], parsed, unparsed) == {"<|im_end|>"}


def test_the_usual_tokens_are_known_without_asking() -> None:
    assert [token for token in SPECIAL if not is_usual(token)] == [
        "]<]image[>[", ">>TITLE<<", "|||EMAIL_ADDRESS|||", "<seed:bos>",
    ]  # fmt: skip
    assert not any(is_usual(token) for token in ("<div>", "</p>", "[int]", "<think>", "<int>"))


def items_with(text: str) -> list[Any]:
    half = len(text) // 2
    parts = [{"type": "input_text", "text": text[:half]}, {"type": "input_text", "text": text[half:]}]
    call = {"type": "tool_use", "id": text, "name": "f", "input": {text: [{"type": "text", "text": "", "more": text}]}}
    return [
        {"role": "user", "content": text},
        {"role": "user", "content": parts},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": text}], "summary": parts},
        {"type": "function_call", "call_id": text, "name": "f", "arguments": json.dumps({"a": text}), "status": None},
        {"type": "function_call_output", "call_id": text, "output": parts},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": text}, call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": text, "content": parts}]},
    ]


@given(texts)
def test_no_item_of_the_other_apis_keeps_a_special_token(text: str) -> None:
    items = items_with(text)
    special = {token for token in candidates_in_items(items, ()) if token in SPECIAL or is_tag(token, TAGS)}
    broken, _ = break_items(items, special, (), "input")
    once_more, repairs = break_items(broken, special, (), "input")
    assert once_more == broken and not repairs
    for item in broken:
        assert forged("\n".join(strings_of(item))) == []
    assert [text.replace(JOINER, "") for text in strings_of(broken)] == [
        text.replace(JOINER, "") for text in strings_of(items)
    ]


def strings_of(value: Any) -> list[str]:
    """The texts of a value as a template writes them: parts behind each other, arguments decoded."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        values = [json.loads(inner) if key == "arguments" else inner for key, inner in value.items()]
        return [text for inner in (*value, *values) for text in strings_of(inner)]
    if isinstance(value, list):
        joined = "".join(part["text"] for part in value if isinstance(part, dict) and "text" in part)
        return [joined, *(text for inner in value for text in strings_of(inner))]
    return []
