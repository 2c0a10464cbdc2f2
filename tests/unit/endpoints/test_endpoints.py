"""Each endpoint's program: what it asks, how it reads the answer, and that an odd answer is one of our errors."""

import base64
import struct

import pytest

from llamacpp_server import (
    BadRequestError,
    ChatRequest,
    Health,
    LlamaServerError,
    MalformedReplyError,
    NotFoundError,
    Ranking,
    ServerFaultError,
    ServerLoadingError,
    ServerSettings,
    Usage,
)
from llamacpp_server._endpoints import lora as _lora
from llamacpp_server._endpoints import router as _router
from llamacpp_server._endpoints import server as _endpoints
from tests.unit.driver import Answer, Conversation

HOST = "http://user:secret@host"
SETTINGS = ServerSettings(base_url=HOST, max_concurrency=None)
CHAT = ChatRequest(messages=[{"role": "user", "content": "Hello"}])

# name: (program, what it must ask first, an answer that is well)
PROGRAMS = {
    "health": (lambda s: _endpoints.health(s), ("GET", "/health", {}, None), {"status": "ok"}),
    "ready": (lambda s: _endpoints.wait_until_ready(s, 1), ("GET", "/health", {}, None), {"status": "ok"}),
    "models": (lambda s: _endpoints.models(s), ("GET", "/v1/models", {}, None), {"data": []}),
    "model_name": (lambda s: _endpoints.model_name(s), ("GET", "/v1/models", {}, None), {"data": [{"id": "m"}]}),
    "props": (lambda s: _endpoints.props(s, None), ("GET", "/props", {}, None), {}),
    "info": (lambda s: _endpoints.info(s, None), ("GET", "/v1/models", {}, None), {"data": []}),
    "slots": (lambda s: _endpoints.slots(s, None), ("GET", "/slots", {}, None), []),
    "save": (
        lambda s: _endpoints.slot_action(s, 1, "save", "f.bin", None),
        ("POST", "/slots/1", {"action": "save"}, {"filename": "f.bin"}),
        {"id_slot": 1, "n_saved": 5, "n_written": 9, "timings": {"save_ms": 0.5}},
    ),
    "erase": (
        lambda s: _endpoints.slot_action(s, 0, "erase", None, None),
        ("POST", "/slots/0", {"action": "erase"}, {}),
        {"id_slot": 0, "n_erased": 5},
    ),
    "lora_adapters": (lambda s: _lora.lora_adapters(s, None), ("GET", "/lora-adapters", {}, None), []),
    "set_lora_adapters": (
        lambda s: _endpoints.set_lora_adapters(s, {0: 0.5, 2: 0}),
        ("POST", "/lora-adapters", {}, [{"id": 0, "scale": 0.5}, {"id": 2, "scale": 0}]),
        {"success": True},
    ),
    "metrics": (lambda s: _endpoints.metrics(s, None), ("GET", "/metrics", {}, None), b"llamacpp:n 1\n"),
    "load_model": (
        lambda s: _router.load_model(s, "m", 0),
        ("POST", "/models/load", {}, {"model": "m"}),
        {"data": [{"id": "m", "status": {"value": "loaded"}}]},
    ),
    "unload_model": (
        lambda s: _router.unload_model(s, "m"),
        ("POST", "/models/unload", {}, {"model": "m"}),
        {"data": [{"id": "m", "status": {"value": "unloaded"}}]},
    ),
    "embed": (
        lambda s: _endpoints.embed(s, ["a"], None, {}),
        ("POST", "/v1/embeddings", {}, {"input": ["a"], "encoding_format": "base64"}),
        {"data": [{"index": 0, "embedding": [1.0]}]},
    ),
    "rerank": (
        lambda s: _endpoints.rerank(s, "q", ["a"], None, None),
        ("POST", "/v1/rerank", {}, {"query": "q", "documents": ["a"]}),
        {"results": [{"index": 0, "relevance_score": 1.0}]},
    ),
    "tokenize": (
        lambda s: _endpoints.tokenize(s, "x", False, True, None),
        ("POST", "/tokenize", {}, {"content": "x", "add_special": False, "parse_special": True}),
        {"tokens": [1]},
    ),
    "tokenize_pieces": (
        lambda s: _endpoints.tokenize_pieces(s, "x", True, False, None),
        ("POST", "/tokenize", {}, {"content": "x", "add_special": True, "parse_special": False, "with_pieces": True}),
        {"tokens": [{"id": 1, "piece": "x"}]},
    ),
    "detokenize": (
        lambda s: _endpoints.detokenize(s, (1, 2), None),
        ("POST", "/detokenize", {}, {"tokens": [1, 2]}),
        {"content": "x"},
    ),
    "apply_template": (
        lambda s: _endpoints.apply_template(s, CHAT),
        ("POST", "/apply-template", {}, {"messages": CHAT.messages}),
        {"prompt": "x"},
    ),
    "count_tokens": (
        lambda s: _endpoints.count_tokens(s, CHAT),
        ("POST", "/v1/chat/completions/input_tokens", {}, {"messages": CHAT.messages}),
        {"input_tokens": 26, "object": "response.input_tokens"},
    ),
    "end_reasoning": (
        lambda s: _endpoints.end_reasoning(s, "chatcmpl-x", None),
        ("POST", "/v1/chat/completions/control", {}, {"id": "chatcmpl-x", "action": "reasoning_end"}),
        {"success": True},
    ),
}

ODD = [
    None, True, 7, "text", [], {}, [None], [1], ["x"], [[]], [{}], {"data": None}, {"data": 5}, {"data": [None]},
    {"data": [5]}, {"data": [{"index": 0}]}, {"data": [{"index": "x", "embedding": "!"}]}, {"models": 5},
    {"data": [{"index": 0, "embedding": "AAA"}]}, {"data": [{"index": 0, "embedding": None}]},
    {"results": None}, {"results": [1]}, {"results": [{"index": 0}]}, {"tokens": None}, {"tokens": 5},
    {"tokens": [None]}, {"content": None}, {"prompt": None}, {"input_tokens": None}, {"input_tokens": "many"},
    {"input_tokens": []}, {"default_generation_settings": 5}, {"modalities": 5}, {"error": "x"}, {"success": False},
    {"data": [{"id": "m", "status": 5}]}, {"data": [{"id": "m", "meta": 5}]}, {"id_slot": None}, {"status": ["x"]},
]  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_asked(name):
    program, first, well = PROGRAMS[name]
    talk = Conversation([Answer(well)])
    talk.run(program(SETTINGS))
    assert talk.requests[0] == first


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_odd_answer_is_read_or_is_one_of_our_errors_and_shows_no_credentials(name):
    program, _, _ = PROGRAMS[name]
    for odd in ODD:
        try:
            Conversation([Answer(odd)]).run(program(SETTINGS))
        except LlamaServerError as error:
            assert "secret" not in str(error) + repr(error) + repr(vars(error)), odd
            assert "host" in str(error) or error.url is None, odd


@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in ("health", "ready", "metrics")])
def test_text_that_is_not_json_is_malformed(name):
    program, _, _ = PROGRAMS[name]
    with pytest.raises(MalformedReplyError) as caught:
        Conversation([Answer(b"hello", headers={"content-type": "text/plain"})]).run(program(SETTINGS))
    assert caught.value.url is not None
    assert "secret" not in caught.value.url


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_web_page_is_called_one(name):
    program, _, _ = PROGRAMS[name]
    page = Answer(b"<!doctype html><html></html>", headers={"content-type": "text/html"})
    with pytest.raises(MalformedReplyError, match="HTML page"):
        Conversation([page]).run(program(SETTINGS))


@pytest.mark.parametrize(
    "name",
    ["slots", "save", "erase", "props", "lora_adapters", "metrics", "embed", "rerank", "tokenize", "detokenize",
     "apply_template", "count_tokens", "end_reasoning"],
)  # fmt: skip
def test_the_model_of_the_settings_is_named_to_routers(name):
    program, (method, path, query, body), well = PROGRAMS[name]
    talk = Conversation([Answer(well)])
    talk.run(program(SETTINGS.replace(model="qwen")))
    named = {**query, "model": "qwen"} if method == "GET" else query
    if name == "props":
        named["autoload"] = "false"
    assert talk.requests[0][:3] == (method, path, named)
    assert (talk.requests[0][3] or {}).get("model") == (None if body is None else "qwen")


# -- health


@pytest.mark.parametrize("body", [b"OK", b"", b"ok\n", b'"ok"', b"[]", b"null", b"7"])
def test_any_200_is_healthy_unless_it_is_a_web_page(body):
    assert Conversation([Answer(body)]).run(_endpoints.health(SETTINGS)).ready is True


def test_health_of_a_build_without_it_is_whether_it_lists_models():
    talk = Conversation([Answer({"error": {"message": "x"}}, 404), Answer({"data": []})])
    assert talk.run(_endpoints.health(SETTINGS)) == Health(True, "ok")
    assert [request[1] for request in talk.requests] == ["/health", "/v1/models"]


@pytest.mark.parametrize(
    "body",
    [{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, {"status": "loading model"}],
)
def test_a_loading_server_is_not_ready_and_not_waited_for(body):
    talk = Conversation([Answer(body, 503)])
    health = talk.run(_endpoints.health(SETTINGS))
    assert health.ready is False
    assert health.message.lower() == "loading model"
    assert talk.slept == []


def test_waiting_until_ready_asks_again_until_it_is():
    loading = Answer({"error": {"message": "Loading model"}}, 503)
    talk = Conversation([loading, loading, loading, Answer({"status": "ok"})])
    assert talk.run(_endpoints.wait_until_ready(SETTINGS, 60)).ready
    assert talk.slept == [0.05, 0.1, 0.2]


# -- models


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}]}, "a"),
        ([{"id": "a"}], "a"),
        ({"models": [{"name": "a", "model": "a"}]}, "a"),
        ({"models": [{"name": "other"}], "data": [{"id": "a"}]}, "a"),
        ({"data": [{"id": "u", "status": {"value": "unloaded"}}, {"id": "a", "status": {"value": "loaded"}}]}, "a"),
        ({"data": [{"id": "u", "status": {"value": "unloaded"}}, {"id": "a", "status": {"value": "sleeping"}}]}, "a"),
        ({"data": [{"id": "u", "status": {"value": "unloaded"}}]}, "u"),
    ],
)
def test_the_models_name_is_found_in_every_shape_of_list(body, name):
    assert Conversation([Answer(body)]).run(_endpoints.model_name(SETTINGS)) == name


def test_a_given_model_name_wins_and_asks_nothing():
    talk = Conversation([])
    assert talk.run(_endpoints.model_name(SETTINGS.replace(model="mine"))) == "mine"
    assert talk.requests == []


def test_a_server_without_models_has_no_name():
    with pytest.raises(BadRequestError, match="does not list"):
        Conversation([Answer({"data": []})]).run(_endpoints.model_name(SETTINGS))


# -- routers


def status(value, **more):
    return Answer({"data": [{"id": "m", "aliases": ["nick"], "status": {"value": value, **more}}]})


def test_loading_a_model_waits_until_it_is_loaded():
    talk = Conversation([Answer({"success": True}), status("loading"), status("loading"), status("loaded")])
    assert talk.run(_router.load_model(SETTINGS, "nick", 5)).status == "loaded"
    assert [request[1] for request in talk.requests] == ["/models/load", *["/v1/models"] * 3]
    assert len(talk.slept) == 2


def test_a_load_that_fails_is_raised_at_once_with_its_exit_code():
    talk = Conversation([Answer({"success": True}), status("loading"), status("unloaded", failed=True, exit_code=1)])
    with pytest.raises(ServerFaultError, match=r"'m' failed to load \(exit code 1\)"):
        talk.run(_router.load_model(SETTINGS, "m", 5))
    assert len(talk.slept) == 1


def test_a_load_that_takes_too_long_is_given_up():
    talk = Conversation([Answer({"success": True}), status("loading")])
    with pytest.raises(ServerLoadingError, match="still loading"):
        talk.run(_router.load_model(SETTINGS, "m", 0.35))
    assert sum(talk.slept) == pytest.approx(0.35)


def test_a_model_that_runs_already_is_loaded():
    running = Answer({"error": {"code": 400, "message": "model is already running"}}, 400)
    assert Conversation([running, status("loaded")]).run(_router.load_model(SETTINGS, "m", 5)).id == "m"
    with pytest.raises(BadRequestError, match="other"):
        Conversation([Answer({"error": {"message": "other"}}, 400)]).run(_router.load_model(SETTINGS, "m", 5))


def test_a_model_that_is_not_listed_is_not_found():
    with pytest.raises(NotFoundError, match="'zz'"):
        Conversation([Answer({"success": True}), status("loaded")]).run(_router.load_model(SETTINGS, "zz", 5))


def test_unloading_waits_for_its_end():
    talk = Conversation([Answer({"success": True}), status("loaded"), status("unloaded")])
    assert talk.run(_router.unload_model(SETTINGS, "m")) is None
    assert len(talk.slept) == 1


# -- vectors and ranks


def packed(*numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def test_vectors_come_in_the_order_of_the_texts_as_base64_or_as_numbers():
    entries = [{"index": 1, "embedding": [0.25, -1]}, {"index": 0, "embedding": packed(1.5, -2.0)}]
    answer = Answer({"data": entries, "model": "m", "usage": {"prompt_tokens": 5, "total_tokens": 5}})
    found = Conversation([answer]).run(_endpoints.embed(SETTINGS, ["a", "b"], None, {}))
    assert found.vectors == [[1.5, -2.0], [0.25, -1]]
    assert (found.model, found.usage) == ("m", Usage(5, 0))


def test_a_missing_vector_is_noticed():
    with pytest.raises(MalformedReplyError, match="sent 2 texts, but got 1 vectors"):
        Conversation([Answer({"data": [{"index": 0, "embedding": [1]}]})]).run(
            _endpoints.embed(SETTINGS, ["a", "b"], None, {})
        )


def test_nothing_to_embed_or_rank_asks_nothing():
    talk = Conversation([])
    assert talk.run(_endpoints.embed(SETTINGS, [], None, {})).vectors == []
    assert talk.run(_endpoints.rerank(SETTINGS, "q", [], 3, None)) == []
    assert talk.requests == []


@pytest.mark.parametrize("program", [lambda t: _endpoints.embed(SETTINGS, t, None, {}),
                                     lambda t: _endpoints.rerank(SETTINGS, "q", t, None, None)])  # fmt: skip
def test_one_text_in_place_of_a_list_is_refused_and_not_taken_for_letters(program):
    talk = Conversation([Answer({})])
    with pytest.raises(BadRequestError, match="list"):
        talk.run(program("hello"))
    assert talk.requests == []


def test_ranks_come_best_first_and_top_n_zero_is_sent():
    results = [{"index": 0, "relevance_score": -3.5}, {"index": 2, "relevance_score": 2.0}]
    talk = Conversation([Answer({"results": results})])
    assert talk.run(_endpoints.rerank(SETTINGS, "q", ["a", "b", "c"], 0, None)) == [Ranking(2, 2.0), Ranking(0, -3.5)]
    assert talk.requests[0][3]["top_n"] == 0


# -- token counts on an old build


def test_counting_falls_back_to_the_rendered_prompt():
    old = [
        Answer({"error": {"message": "File Not Found"}}, 404),
        Answer({"prompt": "<user>Hello"}),
        Answer({"tokens": [1, 2, 3]}),
    ]
    talk = Conversation(old)
    assert talk.run(_endpoints.count_tokens(SETTINGS, CHAT)) == 3
    assert [request[1] for request in talk.requests] == [
        "/v1/chat/completions/input_tokens", "/apply-template", "/tokenize"
    ]  # fmt: skip
    assert talk.requests[2][3] == {"content": "<user>Hello", "add_special": True, "parse_special": True}


def test_ending_the_thinking_of_nothing_is_an_error():
    answer = Answer({"success": False, "message": "no active completion for this id"})
    with pytest.raises(BadRequestError, match=r"no active completion.*reasoning_control"):
        Conversation([answer]).run(_endpoints.end_reasoning(SETTINGS, "x", None))


# -- addresses


def test_query_and_headers_of_the_settings_are_sent_with_each_request():
    settings = SETTINGS.replace(query={"tenant": "a&b"}, headers={"X-Team": "blue"}, api_key="k")
    talk = Conversation([Answer({"tokens": []})])
    talk.run(_endpoints.tokenize(settings, "x", False, True, None))
    send = talk.sent[0]
    assert send.url.endswith("/tokenize?tenant=a%26b")
    login = {"Authorization": "Basic dXNlcjpzZWNyZXQ=", "X-Api-Key": "k"}  # of the address, for a gateway; and the key
    ours = {"Content-Type": "application/json", "Accept-Encoding": "gzip, deflate"}
    assert send.headers == {"X-Team": "blue", **login, **ours}
    assert "Bearer" not in repr(send)


def test_an_api_prefix_is_kept():
    talk = Conversation([Answer({"status": "ok"})])
    talk.run(_endpoints.health(SETTINGS.replace(base_url="http://host/llama/v1")))
    assert talk.sent[0].url == "http://host/llama/health"
