"""Several answers, log probabilities, the native endpoint's fields, and guesses of a draft model, on real servers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llamacpp_server import (
    ChatRequest,
    CompletionReply,
    CompletionRequest,
    InfillRequest,
    LlamaServerClient,
    LocalServer,
    fold_completion,
)
from tests.models import Script

HELLO: Any = [{"role": "user", "content": "Hello"}]
THREE = {"max_tokens": 3, "ignore_eos": True}


def test_usage_counts_all_answers_and_each_prompt_once(client: LlamaServerClient) -> None:
    one = client.chat(ChatRequest(messages=HELLO, params=THREE)).usage
    two = client.chat(ChatRequest(messages=HELLO, params={**THREE, "n": 2}))
    assert one is not None and two.usage is not None and len(two.choices) == 2
    assert (two.usage.prompt_tokens, two.usage.completion_tokens) == (one.prompt_tokens, 6)
    prompts = ["one", "and two"]
    apart = [client.complete(CompletionRequest(prompt=prompt, params=THREE)).usage for prompt in prompts]
    both = client.complete(CompletionRequest(prompt=prompts, params={**THREE, "n": 2}))
    assert both.usage is not None and len(both.choices) == 4
    assert both.usage.prompt_tokens == sum(usage.prompt_tokens for usage in apart if usage)
    assert both.usage.completion_tokens == 12


def test_a_token_has_its_own_probability_without_the_likeliest(client: LlamaServerClient) -> None:
    asked = {**THREE, "logprobs": True, "temperature": 0}
    bare = client.chat(ChatRequest(messages=HELLO, params={**asked, "top_logprobs": 0})).logprobs
    full = client.chat(ChatRequest(messages=HELLO, params={**asked, "top_logprobs": 2})).logprobs
    assert bare is not None and full is not None
    assert [token["token"] for token in bare["content"]] == [token["token"] for token in full["content"]]
    assert all(token["top_logprobs"] == [] and token["logprob"] <= 0 for token in bare["content"])
    assert all(len(token["top_logprobs"]) == 2 for token in full["content"])


def test_token_ids_come_from_the_native_endpoint(client: LlamaServerClient) -> None:
    reply = client.complete(CompletionRequest(prompt="Hello", params={**THREE, "return_tokens": True}))
    assert len(reply.choices[0].tokens) == 3
    assert client.detokenize(list(reply.choices[0].tokens)) == reply.text
    assert reply.usage is not None and reply.usage.completion_tokens == 3


def test_token_ids_are_streamed_with_their_text(scripted_server: Any) -> None:
    with scripted_server(Script(says=["a", "b", "c"])).client() as client:
        request = CompletionRequest(prompt="Hello", params={"return_tokens": True})
        deltas = list(client.stream_complete(request))
        reply = client.complete(request)
    assert len(deltas) > 2
    assert all(len(delta.tokens) == 1 for delta in deltas if delta.text)
    assert fold_completion(deltas).choices[0].tokens == reply.choices[0].tokens[: len(deltas) - 1]


def test_a_stream_warns_of_ids_that_it_lacks_and_an_unstreamed_reply_has_them(
    client: LlamaServerClient, caplog: pytest.LogCaptureFixture
) -> None:
    # The untrained model writes single bytes of characters.
    asked = {"max_tokens": 12, "ignore_eos": True, "return_tokens": True, "temperature": 0}
    request = CompletionRequest(prompt="Hello", params=asked)
    assert len(client.complete(request).choices[0].tokens) == 12
    assert "omits the ids" not in caplog.text
    assert len(fold_completion(list(client.stream_complete(request))).choices[0].tokens) < 12
    assert "the stream omits the ids of tokens" in caplog.text


def test_an_infill_request_is_completed_too(serve: Any) -> None:
    with serve("fim.gguf", parallel=1, ctx_size=1024).client() as client:
        gap = InfillRequest(prefix="def add(a, b):\n    ", suffix="\n    return c", params=THREE)
        first, second = client.complete(gap), client.infill(gap)
        assert first.usage is not None and second.usage is not None
        assert first.usage.prompt_tokens == second.usage.prompt_tokens
        with_ids = client.infill(replace(gap, params={**THREE, "return_tokens": True}))
        assert len(with_ids.choices[0].tokens) == 3


@pytest.fixture
def endless(scripted_server: Any) -> LocalServer:
    """Says lines that are less and less indented, without end."""
    server: LocalServer = scripted_server(Script(says=["a", "\n    ", "b", "\n  ", "c", "\n"], endless=True))
    return server


def test_native_fields_are_kept_to(endless: LocalServer) -> None:
    with endless.client() as client:

        def complete(**params: Any) -> CompletionReply:
            return client.complete(CompletionRequest(prompt="x", params={"max_tokens": 400, **params}))

        assert complete().text.startswith("a\n    b\n  c\n\n")
        indented = complete(n_indent=4)
        assert (indented.text, indented.finish_reason) == ("a\n    b\n  c", "length")
        usage = complete(t_max_predict_ms=1).usage
        assert usage is not None and usage.completion_tokens < 400


def test_the_guesses_of_a_draft_model_are_counted(serve: Any, models_dir: Path) -> None:
    server = serve("random.gguf", draft_model=models_dir / "random.gguf", parallel=1, ctx_size=2048)
    with server.client() as client:
        timings = client.complete(
            CompletionRequest(prompt="Hello", params={"max_tokens": 40, "temperature": 0, "ignore_eos": True})
        ).timings
    assert timings is not None and timings.draft_n and timings.draft_n_accepted
    assert 0 < timings.draft_n_accepted <= timings.draft_n <= 40
    assert timings.as_dict()["draft_n"] == timings.draft_n
