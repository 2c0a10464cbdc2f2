"""Results of tools that the server can't read, and the stand-ins with which a template is tried."""

import json

import pytest

from llamacpp_server._history import repair_history, unreadable, well_formed, without_media
from tests.corpus.histories import ONE, TWO, USER, call, calls, result

SEEN = {"type": "text", "text": "seen"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
FILM = {"type": "video_url", "video_url": "http://x"}
PDF = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}
NO_IMAGE, NO_SOUND = "[image/png: this model can't read images]", "[audio: this model can't read audio]"


def repaired(*parts):
    """The content of a result of these parts, and where and why it was repaired."""
    messages, repairs = repair_history([USER, calls(call(ONE)), result(ONE, list(parts)), USER])
    return messages[2]["content"], [(one.name, one.where, one.what) for one in repairs]


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "json", "json": {"city": "Ålesund"}}, '{"city": "Ålesund"}'),
        ({"type": "json", "value": [1, 2]}, "[1, 2]"),
        ({"type": "json", "data": None}, "null"),
        ({"type": "json"}, '{"type": "json"}'),
        (
            {"type": "search_result", "title": "Oslo", "source": "https://o.no",
             "content": [{"type": "text", "text": "a city"}, "in Norway", {"text": ""}, {"x": 1}, 5]},
            "Oslo\nhttps://o.no\na city\nin Norway",
        ),
        ({"type": "hit", "name": "n", "url": "u", "uri": 5, "title": "", "content": "words"}, "n\nu\nwords"),
        ({"type": "hit", "text": "words", "title": "Oslo", "source": "https://o.no"}, "words\nOslo\nhttps://o.no"),
        ({"type": "embedded", "resource": {"text": "words"}}, "words"),
        ({"type": "hit", "title": "a title says nothing alone"},
         '{"type": "hit", "title": "a title says nothing alone"}'),
        ({"type": "hit", "title": "t", "content": [{"text": 5}]},
         '{"type": "hit", "title": "t", "content": [{"text": 5}]}'),
        ({"type": "blob", "data": "AA", "mimeType": "a/zip"}, "[a/zip: llama-server can't read it]"),
        ({"type": "x", "base64": "AA"}, "[x: llama-server can't read it]"),
        ({"type": "x", "blob": "AA"}, "[x: llama-server can't read it]"),
        ({"type": "x", "file_id": "f"}, "[x: llama-server can't read it]"),
        ({"type": "image", "file_id": "f"}, "[image: llama-server can't read it]"),
        ({"type": "image", "text": "not said", "source": {"media_type": "image/png"}},
         "[image/png: llama-server can't read it]"),
        ({"type": "document", "source": {"type": "x"}}, "[file: llama-server can't read it]"),
        ({"type": "made_up", "field": {1}, "é": 1}, '{"type": "made_up", "field": "{1}", "é": 1}'),
        ({"field": 1}, '{"field": 1}'),
        ({"type": "text", "text": None}, ""),
        ({"type": "text", "text": {"a": "é"}}, '{"a": "é"}'),
        ({"type": "text"}, ""),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_block_that_the_server_can_not_read_becomes_text_in_a_tool_result(block, text):
    content, repairs = repaired(SEEN, block, {"type": "json", "json": "last"})
    assert content == f'seen\n{text}\n"last"'
    kind = "text" if block.get("type") == "text" else repr(str(block.get("type")))
    assert [(name, where) for name, where, _ in repairs] == [
        ("tool_results", "messages[2].content[1]"),
        ("tool_results", "messages[2].content[2]"),
    ]
    assert f"replaced a {kind} block in a tool result" in repairs[0][2]


def test_blocks_that_the_server_reads_stay_beside_those_that_become_text():
    content, _ = repaired(SEEN, IMAGE, {"type": "json", "json": 1}, "plain", PDF)
    assert content == [SEEN, IMAGE, {"type": "text", "text": "1"}, "plain", PDF]
    assert repaired(SEEN, SEEN) == ([SEEN, SEEN], [])


def test_a_block_that_nobody_knows_loses_nothing_beside_its_text():
    hit = {"type": "hit", "text": "words", "title": "Oslo"}
    content, repairs = repaired(SEEN, hit)
    assert (content, [name for name, _, _ in repairs]) == ("seen\nwords\nOslo", ["tool_results"])
    inner = {"type": "tool_result", "tool_use_id": ONE, "content": [SEEN, hit]}
    messages, _ = repair_history([USER, calls(call(ONE)), {"role": "user", "content": [inner]}])
    assert messages[2] == {"role": "tool", "tool_call_id": ONE, "content": content}


def test_what_a_user_says_is_never_replaced():
    message = {"role": "user", "content": [{"type": "json", "json": 1}]}
    assert repair_history([message]) == ([message], ())


# -- media that the model can't read


@pytest.mark.parametrize(
    ("kinds", "contents", "places"),
    [
        (["image"], [[SEEN, {"type": "text", "text": NO_IMAGE}, SOUND], NO_IMAGE, [PDF, FILM]], ["2[1]", "3[0]"]),
        (["image", "audio"], [f"seen\n{NO_IMAGE}\n{NO_SOUND}", NO_IMAGE, [PDF, FILM]], ["2[1]", "2[2]", "3[0]"]),
        (
            ["video"],
            [[SEEN, IMAGE, SOUND], [IMAGE], [PDF, {"type": "text", "text": "[video: this model can't read videos]"}]],
            ["4[1]"],
        ),
        ([], [[SEEN, IMAGE, SOUND], [IMAGE], [PDF, FILM]], []),
    ],
)
def test_media_of_tools_that_the_model_can_not_read_become_notes(kinds, contents, places):
    noted = []
    seen = {"role": "user", "content": [IMAGE, SOUND, FILM]}
    old = {"role": "function", "content": [PDF, FILM]}
    messages = [USER, seen, result(ONE, [SEEN, IMAGE, SOUND]), result(TWO, [IMAGE]), old, USER]
    changed = without_media(messages, kinds, lambda where, what: noted.append((where, what)))
    assert [message["content"] for message in changed] == ["hi", seen["content"], *contents, "hi"]
    assert [where for where, _ in noted] == [f"messages[{place[0]}].content{place[1:]}" for place in places]
    assert all(f"replaced {kinds[0]}" in what or f"replaced {kinds[-1]}" in what for _, what in noted)
    assert without_media([result(ONE, [5, "x"])], kinds, noted.append) == [result(ONE, [5, "x"])]


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"type": "file", "mime_type": "a/b"}, "a/b"),
        ({"type": "file", "media_type": "a/b", "source": {"mimeType": "c/d"}}, "a/b"),
        ({"type": "file", "mime_type": "", "source": {"mimeType": "a/b"}}, "a/b"),
        ({"type": "file", "mime_type": 5, "file": {"mime_type": "a/b"}}, "a/b"),
        ({"type": "image_url", "image_url": "data:image/gif;base64,AA"}, "image/gif"),
        ({"type": "image", "source": {"data": "data:image/gif,AA"}}, "image/gif"),
        ({"type": "file", "file": {"file_data": "data:text/plain;charset=utf-8,AA"}}, "text/plain"),
        ({"type": "video", "url": "data:,AA"}, "video"),
        ({"type": "video", "url": "http://x"}, "video"),
        ({"type": "input_image", "url": "data:,AA"}, "image"),
        ({"type": "input_image", "image_url": 5}, "image"),
        ({"type": "odd", "url": "data:;base64,AA"}, "odd"),
        ({"type": "x" * 100}, "x" * 40),
        ({"type": "file", "mime_type": "x" * 100}, "x" * 80),
    ],
)
def test_a_note_names_the_type_of_what_it_stands_for(part, named):
    assert unreadable(part, "why") == {"type": "text", "text": f"[{named}: why]"}


# -- stand-ins for values that no template can render


def test_stand_ins_take_the_place_of_values_that_no_template_can_render():
    odd = [
        {"role": "user", "content": 5, "name": 7},
        {
            "role": "assistant",
            "content": [SEEN, {"type": "text", "text": 5}, IMAGE, {"type": "unheard of"}, "x"],
            "reasoning_content": {"a": 1},
            "tool_calls": [{"id": 7, "function": {"name": 3, "arguments": "{"}}, 5, {"id": None, "extra": 1}],
        },
        {"role": "tool", "tool_call_id": 7, "content": None, "name": None},
        USER,
    ]
    user, answer, answered, _ = well_formed(odd)
    stand_in = {"type": "text", "text": "..."}
    assert user == {"role": "user", "content": "...", "name": "7"}
    assert (answer["content"], answer["reasoning_content"]) == ([SEEN, stand_in, IMAGE, stand_in, stand_in], "...")
    first, second = answer["tool_calls"]
    assert first == {
        "id": "7",
        "type": "function",
        "function": {"name": "3", "arguments": json.dumps({"invalid_arguments": "{"})},
    }
    assert len(second["id"]) == 9
    assert (second["function"], second["extra"]) == ({"name": "unknown", "arguments": "{}"}, 1)
    assert answered == {"role": "tool", "tool_call_id": "7", "content": ""}


def test_stand_ins_change_nothing_in_a_good_conversation():
    good = [USER, calls(call(ONE), reasoning_content="hm"), {**result(ONE), "name": "f"}, USER]
    assert well_formed(good) == good
    crossed = [USER, calls(call(ONE), call(TWO)), result(TWO), result(ONE), USER]
    assert well_formed(crossed) == crossed
    assert [message["role"] for message in well_formed([*good, {"role": "assistant", "content": "a"}])][-1] == "user"
    assert well_formed([*good, calls(content="so")], continues=True)[-1] == {"role": "assistant", "content": "so"}
    assert well_formed([{"role": "developer", "content": "d"}, USER], ["roles"])[0]["role"] == "system"
