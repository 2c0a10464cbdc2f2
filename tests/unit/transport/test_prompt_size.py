"""The size of a prompt, for a context that slots share."""

import pytest

from llamacpp_server.transport import PromptSize


def chat(text, **fields):
    return PromptSize({"messages": [{"role": "user", "content": text}], **fields})


def test_no_token_is_shorter_than_a_byte_so_bytes_are_the_bound_until_the_server_counts():
    size = chat("é" * 100, max_tokens=10)
    assert size.needed(4096, 4) == 200 + 16 + 10
    size.count(50)
    assert size.needed(4096, 4) == 50 + 16 + 10


def test_bytes_are_the_estimate_where_the_server_does_not_count():
    size = chat("a" * 300, max_tokens=0)
    size.count(None)
    assert size.needed(4096, 4) == 100 + 16


def test_an_answer_keeps_at_most_half_of_a_slots_share_free():
    assert chat("a").needed(4096, 4) == 1 + 16 + 512
    assert chat("a", max_tokens=4000).needed(4096, 4) == 1 + 16 + 512
    assert chat("a", max_tokens=-1).needed(4096, 4) == 1 + 16 + 512
    assert chat("a", n_predict=5, max_tokens=4000).needed(4096, 4) == 1 + 16 + 5


def test_no_prompt_needs_more_than_the_context_so_each_can_run_alone():
    assert chat("a" * 9999).needed(4096, 4) == 4096


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "abc"}, 3),
        ({"prompt": ["abc", "de"]}, 5),
        ({"prompt": [1, 2, 3]}, 3),
        ({"prompt": [[1, 2], "abc"]}, 5),
        ({"prompt": {"prompt_string": "abc", "multimodal_data": ["AAAA"]}}, 3),
        ({"messages": [{"content": [{"type": "text", "text": "abc"}, {"type": "image_url"}]}]}, 16 + 3 + 1000),
        ({"messages": [{"content": None, "tool_calls": [{"id": "1"}]}]}, 16 + len('[{"id":"1"}]')),
        ({"messages": [{"content": "a"}], "tools": [{}]}, 16 + 1 + len("[{}]")),
    ],
)
def test_all_that_a_prompt_is_made_of_counts(body, tokens):
    assert PromptSize({**body, "max_tokens": 0}).needed(4096, 4) == tokens


@pytest.mark.parametrize("body", [None, b"bytes", {}, {"input": ["text"]}, {"messages": "no list"}])
def test_what_has_no_prompt_needs_nothing(body):
    assert PromptSize(body).needed(4096, 4) == 0
