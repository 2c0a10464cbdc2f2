"""Content blocks of other APIs in the server's form."""

import pytest

from llamacpp_server._history import holds_foreign_blocks, known_blocks, repair_history, unread_block

PNG = "iVBORw0KGgo="


def converted(*messages):
    notes = []
    return known_blocks(messages, lambda where, what: notes.append((where, what))), notes


def part_of(block):
    (message,), _ = converted({"role": "user", "content": [block]})
    return message["content"][0]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "input_text", "text": "Hi"},
        {"type": "output_text", "text": "Hi", "annotations": []},
        {"type": "refusal", "refusal": "Hi"},
        {"text": "Hi"},
        {"type": "resource", "resource": {"uri": "file:///a.txt", "text": "Hi"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Hi"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Hi"}]}},
    ],
    ids=lambda block: block.get("type", "none"),
)
def test_texts_of_other_apis_are_texts(block):
    assert part_of(block) == {"type": "text", "text": "Hi"}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "data": PNG, "mimeType": "image/png"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
    ],
    ids=["Anthropic", "MCP", "Responses"],
)
def test_images_of_other_apis_are_images(block):
    assert part_of(block) == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}


def test_files_and_sound_of_other_apis_are_read_as_such():
    assert part_of({"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}) == {
        "type": "file",
        "file": {"url": "data:text/plain;base64,aGk=", "filename": "a.txt"},
    }
    sound = {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"}
    assert part_of(sound)["input_audio"] == {"url": "data:audio/wav;base64,AAAA"}
    linked = {"type": "document", "title": "A", "source": {"type": "url", "url": "https://a.example/b.pdf"}}
    assert part_of(linked)["file"] == {"url": "https://a.example/b.pdf", "filename": "A"}


def test_a_conversation_of_the_messages_api_has_calls_results_and_reasoning():
    messages, notes = converted(
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I need it.", "signature": "x"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Oslo"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "snow"}]},
                {"type": "text", "text": "And Rome?"},
            ],
        },
    )
    call = {"type": "function", "id": "t1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    assert messages == [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Let me look."}],
            "tool_calls": [call],
            "reasoning_content": "I need it.",
        },
        {"role": "tool", "tool_call_id": "t1", "content": "snow"},
        {"role": "user", "content": [{"type": "text", "text": "And Rome?"}]},
    ]
    assert [where for where, _ in notes] == [
        "messages[1].content[0]",
        "messages[1].content[2]",
        "messages[2].content[0]",
    ]


def test_a_message_of_results_alone_leaves_no_empty_turn():
    result = {"type": "tool_result", "tool_use_id": "t1"}
    assert converted({"role": "user", "content": [result]})[0] == [
        {"role": "tool", "tool_call_id": "t1", "content": ""}
    ]


def test_what_nobody_knows_and_what_is_the_servers_own_stays():
    own = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    assert not holds_foreign_blocks([{"role": "user", "content": own}])
    strange = {"role": "user", "content": [*own, {"type": "hologram"}]}
    assert converted(strange) == ([strange], [])
    assert unread_block([strange]) == "messages[0].content[2] is of type 'hologram'"
    assert unread_block([{"role": "user", "content": own}]) is None


@pytest.mark.parametrize("block", [{"type": "image"}, {"type": "input_text"}, {"type": "document", "source": {}}, {}])
def test_blocks_without_what_they_should_hold_stay(block):
    assert part_of(block) == block


def test_blocks_can_be_left_as_they_are():
    message = {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    kept, repairs = repair_history([message], wanted=["-blocks"])  # type: ignore[list-item]
    assert (kept, repairs) == ([message], ())
