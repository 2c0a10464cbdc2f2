"""Chatting on a real server: the four methods, what is sent, and what comes back."""

import itertools

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, TextBlock, ThinkingBlock

from llamacpp_server import BadRequestError, NotSupportedError
from llamaindex_llamacpp_server import LlamaServer

HELLO = [ChatMessage(role="user", content="Hello")]


@pytest.fixture
def thinking_llm(make_llm, thinker):
    return make_llm(thinker)


def _check_complete(response: ChatResponse) -> None:
    thinking, text = response.message.blocks
    assert isinstance(thinking, ThinkingBlock)
    assert thinking.content.strip() == "Let me think."
    assert isinstance(text, TextBlock)
    assert response.message.content == text.text == "The answer is 42."
    assert response.message.role == "assistant"
    details = response.additional_kwargs
    assert details["finish_reason"] == "stop"
    assert details["total_tokens"] == details["prompt_tokens"] + details["completion_tokens"]
    assert details["timings"]["predicted_n"] == details["completion_tokens"] > 0
    assert details["id"].startswith("chatcmpl-")
    assert details["model"] == response.raw["model"]
    assert response.raw["usage"]["total_tokens"] == details["total_tokens"]
    assert response.raw["choices"][0]["message"]["content"] == "The answer is 42."


def _check_stream(items: list[ChatResponse]) -> None:
    assert all(item.delta is not None for item in items)
    assert "".join(item.delta for item in items) == "The answer is 42."
    thinking = "".join(item.additional_kwargs.get("thinking_delta", "") for item in items)
    assert thinking == items[-1].message.blocks[0].content
    assert len(items) > 5
    for before, after in itertools.pairwise(items):
        assert after.message.content.startswith(before.message.content)
    # Items are of their own: what was seen once does not change.
    assert items[0].message.content == ""
    assert items[0].raw["id"] == items[-1].raw["id"]
    assert "usage" not in items[0].raw
    _check_complete(items[-1])


def test_chat(thinking_llm):
    _check_complete(thinking_llm.chat(HELLO))


async def test_achat(thinking_llm):
    _check_complete(await thinking_llm.achat(HELLO))


def test_stream_chat(thinking_llm):
    _check_stream(list(thinking_llm.stream_chat(HELLO)))


async def test_astream_chat(thinking_llm):
    _check_stream([item async for item in await thinking_llm.astream_chat(HELLO)])


def test_the_last_item_is_what_chat_returns(thinking_llm):
    unstreamed, (*_, last) = thinking_llm.chat(HELLO), thinking_llm.stream_chat(HELLO)
    assert last.message == unstreamed.message
    assert last.additional_kwargs.keys() == unstreamed.additional_kwargs.keys()
    assert last.raw.keys() == unstreamed.raw.keys()


def test_thinking_is_switched_by_field_and_by_call(make_llm, thinker):
    llm = make_llm(thinker, thinking=False)
    assert [block.block_type for block in llm.chat(HELLO).message.blocks] == ["text"]
    assert [block.block_type for block in llm.chat(HELLO, thinking=True).message.blocks] == ["thinking", "text"]


def test_text_with_line_separators_of_unicode(make_llm, scripted_server):
    odd = "a\u2028b\u2029c\u0085d 🦙"
    llm = make_llm(scripted_server(odd))
    *_, last = llm.stream_chat(HELLO)
    assert last.message.content == llm.chat(HELLO).message.content == odd


def test_nothing_is_sent_that_nobody_gave(recorded, chat_server):
    llm, bodies = recorded(chat_server)
    llm.chat(HELLO, max_tokens=1)
    assert bodies == [
        {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_call_wins_over_field_and_none_takes_a_field_back(recorded, chat_server):
    llm, bodies = recorded(
        chat_server, max_tokens=3, temperature=0.0, seed=7, min_p=0.1, extra_body={"x": 1, "y": 1}, thinking=False
    )
    llm.chat(HELLO, max_tokens=2, temperature=None, top_k=0, extra_body={"y": 2})
    body = bodies[0]
    assert (body["max_tokens"], body["seed"], body["min_p"], body["top_k"]) == (2, 7, 0.1, 0)
    assert "temperature" not in body
    assert (body["x"], body["y"]) == (1, 2)
    llm.complete("Hello")
    assert (bodies[1]["max_tokens"], bodies[1]["temperature"]) == (3, 0.0)


def test_unknown_names_are_refused_with_the_nearest_known_one(llm):
    with pytest.raises(BadRequestError, match=r"did you mean 'temperature'"):
        llm.chat(HELLO, temprature=1)
    with pytest.raises(ValueError, match=r"did you mean 'temperature'"):
        LlamaServer(temprature=1)  # type: ignore[call-arg]


def test_errors_in_the_request_are_raised_before_the_first_item(llm):
    with pytest.raises(BadRequestError, match=r"temprature"):
        llm.stream_chat(HELLO, temprature=1)


def test_log_probabilities_name_the_token_itself_first(thinking_llm):
    asked = {"logprobs": True, "top_logprobs": 2, "thinking": False}
    unstreamed = thinking_llm.chat(HELLO, **asked)
    own = unstreamed.raw["choices"][0]["logprobs"]["content"]
    assert [entries[0].token for entries in unstreamed.logprobs] == [entry["token"] for entry in own]
    assert "".join(entries[0].token for entries in unstreamed.logprobs) == "The answer is 42."
    assert all(2 <= len(entries) <= 3 for entries in unstreamed.logprobs)
    *items, last = thinking_llm.stream_chat(HELLO, **asked)
    streamed = [entries for item in items if item.logprobs for entries in item.logprobs]
    assert [entries[0].token for entries in streamed] == [entries[0].token for entries in unstreamed.logprobs]
    assert len(last.raw["choices"][0]["logprobs"]["content"]) == len(streamed)
    (first, *_), *_ = thinking_llm.chat(HELLO, **asked, post_sampling_probs=True).logprobs
    assert first.logprob <= 0


def test_a_token_has_its_own_probability_without_alternatives(thinking_llm):
    unstreamed = thinking_llm.chat(HELLO, logprobs=True, top_logprobs=0, thinking=False)
    assert [[entry.token for entry in entries] for entries in unstreamed.logprobs] == [
        [entry["token"]] for entry in unstreamed.raw["choices"][0]["logprobs"]["content"]
    ]
    assert "".join(entries[0].token for entries in unstreamed.logprobs) == "The answer is 42."
    items = list(thinking_llm.stream_chat(HELLO, logprobs=True, top_logprobs=0, thinking=False))
    assert [len(item.logprobs) for item in items if item.logprobs]


def test_the_guesses_of_a_draft_model_are_reported(make_llm, serve, models_dir):
    server = serve("random.gguf", draft_model=models_dir / "random.gguf", parallel=1, ctx_size=2048)
    llm = make_llm(server, max_tokens=40, temperature=0, ignore_eos=True, thinking=False)
    *_, streamed = llm.stream_chat(HELLO)
    for response in (llm.chat(HELLO), streamed):
        timings = response.additional_kwargs["timings"]
        assert 0 < timings["draft_n_accepted"] <= timings["draft_n"]


def test_several_answers_are_all_in_raw(llm):
    response = llm.chat(HELLO, n=2, max_tokens=3, seed=1)
    assert [choice["index"] for choice in response.raw["choices"]] == [0, 1]
    assert response.message.content == response.raw["choices"][0]["message"]["content"]
    one = llm.chat(HELLO, max_tokens=3, ignore_eos=True).additional_kwargs
    both = llm.chat(HELLO, n=2, max_tokens=3, ignore_eos=True).additional_kwargs
    assert (both["prompt_tokens"], both["completion_tokens"]) == (one["prompt_tokens"], 6)
    *items, last = llm.stream_chat(HELLO, n=2, max_tokens=3, seed=1)
    assert "".join(item.delta for item in items) == last.message.content
    assert len(last.raw["choices"]) == 2


def test_progress_and_timings_of_each_delta_are_shown(llm):
    items = list(llm.stream_chat(HELLO, return_progress=True, timings_per_token=True, ignore_eos=True))
    assert items[0].additional_kwargs["prompt_progress"]["total"] > 0
    assert any("timings" in item.additional_kwargs for item in items[1:-1])


def test_a_cut_off_answer_says_so(llm):
    assert llm.chat(HELLO, max_tokens=2, ignore_eos=True).additional_kwargs["finish_reason"] == "length"


def test_thinking_that_the_template_lacks_is_refused(make_llm, serve):
    llm = make_llm(serve("plain.gguf", parallel=1, ctx_size=1024))
    with pytest.raises(NotSupportedError, match=r"does not support reasoning"):
        llm.chat(HELLO, thinking=True)


def test_an_overflow_is_typed_with_its_numbers(llm):
    from llamacpp_server import ContextOverflowError

    with pytest.raises(ContextOverflowError) as caught:
        llm.chat([ChatMessage(role="user", content="word " * 3000)])
    assert caught.value.n_ctx == 2048
    assert caught.value.n_prompt_tokens > 2048


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"num_predict": 3}, {"max_tokens": 3}),
        ({"num_predict": -2}, {"max_tokens": -1}),
        ({"max_completion_tokens": 3}, {"max_tokens": 3}),
        ({"format": {"type": "object"}, "max_tokens": 3}, {"json_schema": {"type": "object"}}),
        ({"json_mode": True, "max_tokens": 3}, {"json_schema": {}}),
        ({"think": False, "max_tokens": 3}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ({"keep_alive": "5m", "num_ctx": 8192, "max_tokens": 3}, {}),
    ],
)
def test_a_call_takes_the_names_of_ollamas_class(recorded, chat_server, given, sent):
    llm, bodies = recorded(chat_server)
    llm.chat(HELLO, **given)
    list(llm.stream_chat(HELLO, **given))
    llm.complete("Hello", **given)
    assert len(bodies) == 3
    for body in bodies:
        assert sent.items() <= body.items()
        assert not {"num_predict", "format", "think", "keep_alive", "num_ctx"} & set(body)


async def test_completions_take_the_names_of_ollamas_class(recorded, chat_server, make_llm):
    llm, bodies = recorded(chat_server)
    llm.complete("Hello", formatted=True, num_predict=3)
    list(llm.stream_complete("Hello", formatted=True, num_predict=3))
    assert [body["max_tokens"] if "max_tokens" in body else body["n_predict"] for body in bodies] == [3, 3]
    reply = await make_llm(chat_server).acomplete("Hello", formatted=True, num_predict=3)
    assert reply.additional_kwargs["completion_tokens"] <= 3


def test_what_ollamas_names_can_not_mean_is_a_bad_request(llm):
    with pytest.raises(BadRequestError, match="format must be 'json' or a JSON schema"):
        llm.chat(HELLO, format="yaml")
