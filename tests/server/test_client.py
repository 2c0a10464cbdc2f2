"""Every method of the clients on the real server, blocking and awaiting."""

import inspect
import math
import time

import pytest

from llamacpp_server import (
    AsyncLlamaServerClient,
    BadRequestError,
    ChatRequest,
    CompletionRequest,
    ContextOverflowError,
    EmbedRequest,
    Health,
    InfillRequest,
    LlamaServerClient,
    NotFoundError,
    NotSupportedError,
    RankRequest,
    Token,
)

MESSAGES = [{"role": "user", "content": "Hello"}]
CHAT = ChatRequest(messages=MESSAGES, params={"max_tokens": 4})
TOOL = {"type": "function", "function": {"name": "get_w", "description": "Weather", "parameters": {"type": "object"}}}
TEXTS = [
    "",
    "Hello",
    "Grüße, 日本語, 🦙",
    "a\u2028b\u2029c\u0085d",
    "\x01\x02\x7f",
    "line\n\ttab",
    "\u202e\u200d e\u0301",
]


# -- the server and its models


def test_it_is_healthy_and_ready(connect, chat_server):
    client = connect(chat_server)
    assert client.health() == Health(True, "ok")
    assert client.wait_until_ready(1) == Health(True, "ok")


def test_its_model(connect, chat_server):
    client = connect(chat_server)
    (card,) = client.models()
    assert (card.n_ctx, card.n_ctx_train, card.n_embd, card.status) == (2048, 4096, 64, None)
    assert card.input_modalities == ("text",)
    assert card.capabilities == ("completion",)
    assert client.model_name() == card.id
    assert connect(chat_server, model="mine").model_name() == "mine"


def test_its_properties(connect, chat_server):
    props = connect(chat_server).props()
    assert (props.n_ctx, props.total_slots) == (2048, 2)
    assert (props.is_router, props.is_sleeping) == (False, False)
    assert props.chat_template_caps["supports_tools"] is True
    assert props.modalities["vision"] is False
    assert "tool_call" in props.chat_template
    assert props.default_params["top_k"] == 40
    assert props.build_info


def test_one_snapshot_of_it(connect, chat_server, vision_server):
    info = connect(chat_server).info()
    assert (info.n_ctx, info.total_slots, info.n_embd) == (2048, 2, 64)
    assert (info.tools, info.vision, info.thinking) == (True, False, "enable_thinking")
    assert connect(vision_server).info().vision is True


def test_a_template_without_tools_says_so(connect, serve):
    info = connect(serve("plain.gguf")).info()
    assert (info.tools, info.thinking) == (False, "none")


def test_its_slots(connect, chat_server):
    client = connect(chat_server)
    client.chat(CHAT)
    slots = client.slots()
    assert [slot.id for slot in slots] == [0, 1]
    assert {slot.n_ctx for slot in slots} == {2048}
    assert any(slot.id_task is not None and slot.n_decoded is not None for slot in slots)


def test_a_slot_is_saved_restored_and_erased(connect, chat_server):
    client = connect(chat_server)
    client.chat(ChatRequest(messages=MESSAGES, params={"max_tokens": 2, "id_slot": 1}))
    name = f"{client.kind}.bin"
    saved = client.save_slot(1, name)
    assert saved.id_slot == 1
    assert saved.n_tokens > 10
    assert saved.n_bytes > 0
    assert client.erase_slot(1).n_tokens == saved.n_tokens
    restored = client.restore_slot(1, name)
    assert (restored.n_tokens, restored.n_bytes) == (saved.n_tokens, saved.n_bytes)
    with pytest.raises(BadRequestError):
        client.restore_slot(1, "missing.bin")


def test_its_metrics_are_numbers_that_grow(connect, chat_server):
    client = connect(chat_server)
    before = client.metrics()["tokens_predicted_total"]
    client.chat(CHAT)
    after = client.metrics()
    assert after["tokens_predicted_total"] > before
    assert math.isfinite(after["prompt_tokens_seconds"])


def test_its_adapters_are_none_and_can_be_set(connect, chat_server):
    client = connect(chat_server)
    assert client.lora_adapters() == []
    assert client.set_lora_adapters({}) is None


def test_what_the_server_was_not_started_with_names_its_flag(connect, chat_server, embedding_server):
    client, plain = connect(chat_server), connect(embedding_server)
    for flag, call in [
        ("--embeddings", lambda: client.embed(["x"])),
        ("--reranking", lambda: client.rerank("q", ["x"])),
        ("--metrics", plain.metrics),
        ("--slot-save-path", lambda: plain.save_slot(0, "x.bin")),
        ("fill-in-the-middle", lambda: client.infill(InfillRequest(prefix="a", suffix="b"))),
    ]:
        with pytest.raises(NotSupportedError, match=flag):
            call()


def test_models_are_loaded_by_routers_only(connect, chat_server):
    client = connect(chat_server)
    with pytest.raises(NotFoundError):
        client.load_model("x", timeout=1)
    with pytest.raises(NotFoundError):
        client.unload_model("x")


# -- tokens and templates


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_becomes_tokens_and_a_text_again(connect, chat_server, text):
    client = connect(chat_server)
    tokens = client.tokenize(text)
    assert client.detokenize(tokens) == text
    pieces = client.tokenize_pieces(text)
    assert [piece.id for piece in pieces] == tokens
    assert b"".join(piece.piece for piece in pieces) == text.encode()


def test_special_tokens_are_parsed_when_asked(connect, chat_server):
    client = connect(chat_server)
    (token,) = client.tokenize_pieces("<|im_end|>")
    assert token == Token(258, b"<|im_end|>")
    assert len(client.tokenize("<|im_end|>", parse_special=False)) > 1


def test_a_token_that_does_not_exist_is_a_bad_request(connect, chat_server):
    with pytest.raises(BadRequestError):
        connect(chat_server).detokenize([10**6])


def test_the_prompt_as_the_template_writes_it(connect, chat_server):
    prompt = connect(chat_server).apply_template(ChatRequest(messages=MESSAGES, tools=[TOOL]))
    assert "<|im_start|>user\nHello<|im_end|>" in prompt
    assert "get_w" in prompt


@pytest.mark.parametrize("tools", [(), (TOOL,)])
def test_counted_tokens_are_those_of_the_request(connect, chat_server, tools):
    client = connect(chat_server)
    request = ChatRequest(messages=[{"role": "user", "content": "Grüße 🦙"}], tools=tools, params={"max_tokens": 1})
    usage = client.chat(request).usage
    assert usage is not None
    assert client.count_tokens(request) == usage.prompt_tokens


def test_the_way_to_count_on_older_builds_counts_the_same(connect, chat_server):
    client = connect(chat_server)
    request = ChatRequest(messages=[{"role": "user", "content": "Grüße 🦙"}], tools=[TOOL])
    rendered = client.apply_template(request)
    assert len(client.tokenize(rendered, add_special=True, parse_special=True)) == client.count_tokens(request)


# -- completion


def test_a_completion(connect, chat_server):
    client = connect(chat_server)
    reply = client.complete(CompletionRequest(prompt="Hello", params={"max_tokens": 5, "ignore_eos": True}))
    assert (reply.finish_reason, len(reply.choices)) == ("length", 1)
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (5, 5)
    assert reply.timings is not None
    assert reply.start.id


@pytest.mark.parametrize("prompt", ["text", [72, 105], ["a", "b", "c"], [[72], [105]], [72, "i"]])
def test_every_shape_of_prompt(connect, chat_server, prompt):
    client = connect(chat_server)
    many = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    reply = client.complete(CompletionRequest(prompt=prompt, params={"max_tokens": 3, "ignore_eos": True}))
    assert [choice.finish_reason for choice in reply.choices] == ["length"] * many
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 3 * many


def test_a_completions_stream_adds_up_to_the_unstreamed_answer(connect, chat_server):
    client = connect(chat_server)
    # Letters only: half a character at the end is U+FFFD in a whole reply and is not sent in a stream (b11549).
    params = {"max_tokens": 12, "temperature": 0, "seed": 1, "grammar": "root ::= [a-z]+", "cache_prompt": False}
    deltas = client.read("stream_complete", CompletionRequest(prompt="Once", params=params))
    full = client.complete(CompletionRequest(prompt="Once", params=params, extra_body={"stream": False}))
    assert "".join(delta.text for delta in deltas) == full.text
    assert deltas[-1].usage == full.usage
    assert deltas[-1].finish_reason == full.finish_reason
    assert len(deltas) > 3


def test_log_probabilities_of_a_completion(connect, chat_server):
    params = {"max_tokens": 3, "n_probs": 2, "ignore_eos": True, "temperature": 0}
    reply = connect(chat_server).complete(CompletionRequest(prompt="x", params=params))
    assert reply.choices[0].logprobs is not None
    entries = reply.choices[0].logprobs["content"]
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] <= 0 for entry in entries)


def test_text_between_texts(connect, serve):
    client = connect(serve("fim.gguf"))
    request = InfillRequest(prefix="def f(", suffix="): pass", extra=[("a.py", "x = 1")], params={"max_tokens": 4})
    reply = client.infill(request)
    assert reply.finish_reason in ("stop", "length")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens > 15
    deltas = client.read("stream_infill", request)
    assert deltas[-1].finish_reason in ("stop", "length")


def test_native_answers_end_each_on_their_own(connect, serve):
    client = connect(serve("fim.gguf"))
    request = InfillRequest(prefix="a", suffix="b", params={"max_tokens": 3, "n": 1, "return_tokens": True})
    reply = client.infill(request)
    assert 1 <= len(reply.choices[0].tokens) <= 3


# -- vectors and ranks


def test_vectors_in_the_order_of_the_texts(connect, embedding_server):
    client = connect(embedding_server)
    found = client.embed(["cat", "dog", "cat"])
    assert [len(vector) for vector in found.vectors] == [64] * 3
    assert found.vectors[0] == pytest.approx(found.vectors[2], abs=1e-6)
    assert found.vectors[0] != pytest.approx(found.vectors[1], abs=1e-3)
    assert math.hypot(*found.vectors[0]) == pytest.approx(1, abs=1e-4)
    assert found.usage is not None
    assert found.usage.prompt_tokens > 0


def test_base64_and_numbers_give_the_same_vector(connect, embedding_server):
    client = connect(embedding_server)
    packed = client.embed(["cat"]).vectors[0]
    numbers = client.embed(["cat"], extra_body={"encoding_format": "float"}).vectors[0]
    assert packed == pytest.approx(numbers, abs=1e-6)


def test_documents_best_first(connect, rerank_server):
    client = connect(rerank_server)
    ranks = client.rerank("cat", ["dog", "cat", "bird"])
    assert sorted(rank.index for rank in ranks) == [0, 1, 2]
    assert [rank.score for rank in ranks] == sorted((rank.score for rank in ranks), reverse=True)
    (best,) = client.rerank("cat", ["dog", "cat", "bird"], top_n=1)
    assert (best.index, best.score) == (ranks[0].index, pytest.approx(ranks[0].score, abs=1e-3))


def test_further_fields_of_a_ranking_reach_the_server(connect, rerank_server):
    request = RankRequest(query="Hello", documents=["a", "b"], extra_body={"documents": ["Hello"]})
    assert [ranking.index for ranking in connect(rerank_server).rank(request)] == [0]


def test_a_ranking_has_its_model_and_tokens(connect, rerank_server):
    ranks = connect(rerank_server).rerank("cat", ["dog", "cat"])
    assert ranks.usage.prompt_tokens > 0
    assert ranks.model == ranks.raw["model"]
    batches = connect(rerank_server).rank(RankRequest(query="cat", documents=["dog", "cat"], batch_size=1))
    assert batches.usage.prompt_tokens == ranks.usage.prompt_tokens


def test_the_form_of_tei_gives_the_same_ranking_and_the_texts(connect, rerank_server):
    client = connect(rerank_server)
    texts = ["dog", "cat", "bird"]
    usual = client.rerank("cat", texts)
    tei = client.rerank("cat", [], extra_body={"texts": texts, "return_text": True})
    assert [(rank.index, rank.text) for rank in tei] == [(rank.index, texts[rank.index]) for rank in usual]
    assert [rank.score for rank in tei] == pytest.approx([rank.score for rank in usual], abs=1e-3)


# -- errors of the real server


def test_a_prompt_that_does_not_fit_says_by_how_much(connect, chat_server):
    client = connect(chat_server)
    request = ChatRequest(messages=[{"role": "user", "content": "word " * 600}])
    with pytest.raises(ContextOverflowError) as caught:
        client.chat(request)
    assert (caught.value.n_ctx, caught.value.status) == (2048, 400)
    assert caught.value.n_prompt_tokens == client.count_tokens(request)


def test_a_web_address_that_is_not_the_servers_root_is_reported(connect, chat_server):
    with pytest.raises(NotFoundError, match="base_url"):
        connect(f"{chat_server.base_url}/wrong").tokenize("x")


# -- completeness


def test_both_clients_have_the_same_methods_with_the_same_arguments():
    renamed = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}

    def signatures(cls):
        members = {name: value for name, value in vars(cls).items() if inspect.isfunction(value)}
        return {renamed.get(name, name): list(inspect.signature(value).parameters) for name, value in members.items()}

    assert signatures(AsyncLlamaServerClient) == signatures(LlamaServerClient)


# -- what the server says beyond the typed attributes


def test_the_raw_reply_has_what_no_attribute_holds(connect, chat_server):
    request = ChatRequest(messages=MESSAGES, params={"max_tokens": 3}, extra_body={"verbose": True})
    assert connect(chat_server).chat(request).raw["__verbose"]["generation_settings"]["max_tokens"] == 3


def test_a_native_reply_says_how_it_ended_and_what_it_was_asked(connect, chat_server):
    params = {"max_tokens": 3, "ignore_eos": True, "return_tokens": True}
    (choice,) = connect(chat_server).complete(CompletionRequest(prompt="Hello", params=params)).choices
    assert (choice.stop_type, choice.truncated, choice.stopping_word) == ("limit", False, "")
    assert choice.prompt == "Hello"
    assert choice.tokens_cached > 0
    assert choice.generation_settings["ignore_eos"] is True


def test_values_keep_the_servers_own_words(connect, embedding_server):
    client = connect(embedding_server)
    assert client.embed(["Hello"]).raw["object"] == "list"
    assert client.embed_texts(EmbedRequest(inputs=["Hello", "world"], batch_size=1)).raw["object"] == "list"


def test_metrics_have_the_start_of_the_server_and_what_the_figures_are(connect, chat_server):
    metrics = connect(chat_server).metrics()
    assert "# HELP llamacpp:" in metrics.text
    # The header's name says Unix time, its value is microseconds of the monotonic clock.
    assert metrics.started_at is not None and 0 < metrics.started_at < time.monotonic() * 1e6
