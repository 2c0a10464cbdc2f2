"""What endpoints answer, in the shapes of this build, of older ones and of routers, as values."""

import pytest

from llamacpp_server import Health, LoraAdapter, Metrics, ModelCard, ServerProps, SlotAction, SlotState, Token

# As the server of b11434 sends them, shortened where a value does not matter.
MODELS = {
    "models": [{"name": "A", "model": "A", "capabilities": ["completion"], "details": {"format": "gguf"}}],
    "object": "list",
    "data": [{
        "id": "A", "aliases": ["A", "B"], "tags": [], "object": "model", "owned_by": "llamacpp", "created": 1,
        "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
        "meta": {"vocab_type": 1, "n_vocab": 356, "n_ctx": 1024, "n_ctx_train": 4096, "n_embd": 64, "n_params": 119616},
    }],
}  # fmt: skip

PROPS = {
    "default_generation_settings": {"params": {"seed": 4294967295, "temperature": 0.8}, "n_ctx": 1024},
    "total_slots": 2, "model_alias": "A", "model_path": "/m/a.gguf", "modalities": {"vision": True, "audio": False},
    "chat_template": "{{ messages }}", "chat_template_caps": {"supports_tools": True}, "build_info": "b11434-x",
    "is_sleeping": False, "media_marker": "<__media__>",
}  # fmt: skip

SLOT = {"id": 1, "n_ctx": 1024, "speculative": False, "is_processing": True, "id_task": 7,
        "next_token": [{"has_next_token": True, "n_remain": 3, "n_decoded": 5}]}  # fmt: skip


def test_a_model_card_of_this_build():
    (card,) = ModelCard.list_from_wire(MODELS)
    assert card == ModelCard(
        id="A", aliases=("A", "B"), input_modalities=("text", "image"), output_modalities=("text",), n_ctx=1024,
        n_ctx_train=4096, n_embd=64,
        n_vocab=356, n_params=119616, capabilities=("completion",),
    )  # fmt: skip
    assert card.raw == MODELS["data"][0]
    assert card.status is None


@pytest.mark.parametrize(
    "body",
    [
        {"object": "list", "data": [{"id": "A", "object": "model", "created": 1, "owned_by": "llamacpp"}]},
        {"object": "list", "data": [{"id": "A", "meta": None}]},
        [{"id": "A"}],
        {"models": [{"name": "A", "model": "A"}]},
        {"models": [{"name": "A"}]},
        {"data": None, "models": [{"name": "A"}]},
    ],
)
def test_lists_of_older_builds_wrapped_bare_and_as_ollama_has_them(body):
    assert ModelCard.list_from_wire(body) == [ModelCard(id="A")]


@pytest.mark.parametrize("body", [{"data": []}, [], {"models": []}, {}])
def test_an_empty_list(body):
    assert ModelCard.list_from_wire(body) == []


@pytest.mark.parametrize(
    ("status", "expected", "exit_code"),
    [
        ({"value": "unloaded", "args": ["-c", "512"]}, "unloaded", None),
        ({"value": "loading"}, "loading", None),
        ({"value": "loaded"}, "loaded", None),
        ({"value": "sleeping"}, "sleeping", None),
        ({"value": "downloading"}, "downloading", None),
        ({"value": "unloaded", "failed": True, "exit_code": 1}, "failed", 1),
    ],
)
def test_a_routers_model_has_a_status(status, expected, exit_code):
    card = ModelCard.from_wire({"id": "A", "status": status, "source": "models_dir"})
    assert (card.status, card.exit_code) == (expected, exit_code)


def test_props_of_this_build():
    props = ServerProps.from_wire(PROPS)
    assert (props.n_ctx, props.total_slots, props.model_alias, props.model_path) == (1024, 2, "A", "/m/a.gguf")
    assert (props.build_info, props.chat_template) == ("b11434-x", "{{ messages }}")
    assert props.chat_template_caps == {"supports_tools": True}
    assert props.modalities == {"vision": True, "audio": False}
    assert props.default_params == {"seed": 4294967295, "temperature": 0.8}
    assert (props.is_router, props.is_sleeping) == (False, False)
    assert props.raw is PROPS


def test_props_of_an_old_build():
    old = {"total_slots": 1, "chat_template": "x", "default_generation_settings": {"n_ctx": 512, "temperature": 0.8}}
    props = ServerProps.from_wire(old)
    assert (props.n_ctx, props.total_slots, props.chat_template) == (512, 1, "x")
    assert (props.modalities, props.chat_template_caps, props.build_info) == ({}, {}, "")
    assert props.default_params == {}


def test_props_of_a_router_claim_no_context_and_no_slots():
    wire = {"role": "router", "max_instances": 4, "model_alias": "llama-server", "model_path": "none",
            "default_generation_settings": {"params": None, "n_ctx": 0}, "total_slots": 0}  # fmt: skip
    props = ServerProps.from_wire(wire)
    assert props.is_router
    assert (props.n_ctx, props.total_slots, props.default_params) == (None, None, {})


def test_props_of_a_sleeping_server():
    assert ServerProps.from_wire({**PROPS, "is_sleeping": True}).is_sleeping is True


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (SLOT, SlotState(1, True, 1024, 7, 5)),
        ({**SLOT, "next_token": {"n_decoded": 5}}, SlotState(1, True, 1024, 7, 5)),
        ({"id": 0, "n_ctx": 8, "is_processing": False}, SlotState(0, False, 8)),
        ({"id": 0, "state": 1}, SlotState(0, True)),
        ({"id": 0, "state": 0, "next_token": []}, SlotState(0, False)),
        ({"id": 0, "is_processing": False, "state": 1}, SlotState(0, False)),
    ],
)
def test_slots_of_this_build_unused_ones_and_those_with_a_state(wire, expected):
    assert SlotState.from_wire(wire) == expected


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"id_slot": 1, "filename": "f", "n_saved": 9, "n_written": 99, "timings": {"save_ms": 0.5}},
         SlotAction(1, 9, 99, 0.5)),
        ({"id_slot": 1, "filename": "f", "n_restored": 9, "n_read": 99, "timings": {"restore_ms": 0.5}},
         SlotAction(1, 9, 99, 0.5)),
        ({"id_slot": 0, "n_erased": 9}, SlotAction(0, 9)),
        ({"id_slot": 0, "n_saved": 0, "n_written": 0}, SlotAction(0, 0)),
    ],
)  # fmt: skip
def test_the_three_slot_actions(wire, expected):
    assert SlotAction.from_wire(wire) == expected


@pytest.mark.parametrize(
    ("piece", "expected"), [("é", "é".encode()), ([195], b"\xc3"), ([240, 159], b"\xf0\x9f"), ("", b""), ([], b"")]
)
def test_pieces_are_bytes_because_a_token_may_be_a_part_of_a_character(piece, expected):
    assert Token.from_wire({"id": 5, "piece": piece}) == Token(5, expected)


def test_adapters():
    wire = {"id": 0, "path": "a.gguf", "scale": 0.5, "task_name": "", "prompt_prefix": ""}
    assert LoraAdapter.from_wire(wire) == LoraAdapter(0, "a.gguf", 0.5)
    assert LoraAdapter.from_wire({"id": 3}) == LoraAdapter(3, "", 0.0)


def test_metrics_are_numbers_by_name():
    text = (
        "# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.\n"
        "# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 26\n"
        'llamacpp:n_busy{slot="0"} 1.5e3\nllamacpp:odd nan\nother_metric 2\n\nllamacpp:last -0.5'
    )
    metrics = Metrics.from_text(text)
    assert metrics["prompt_tokens_total"] == 26
    assert metrics["n_busy"] == 1500
    assert metrics["other_metric"] == 2
    assert metrics["last"] == -0.5
    assert metrics["odd"] != metrics["odd"]
    assert set(metrics.values) == {"prompt_tokens_total", "n_busy", "odd", "other_metric", "last"}
    with pytest.raises(KeyError):
        metrics["prompt_seconds_total"]


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"status":"ok"}', "ok"), ('{"status":"ok","slots_idle":1}', "ok"), ("OK", "ok"), ("", "ok"), ("[]", "ok"),
     ('{"status":"sleeping"}', "sleeping")],
)  # fmt: skip
def test_health_in_all_its_words(text, message):
    assert Health.from_text(text) == Health(True, message)


def test_a_model_that_is_not_loaded_has_the_context_of_its_file():
    entry = {"id": "one", "status": {"value": "unloaded"}, "context_length": 4096}  # of a router, b11549
    (card,) = ModelCard.list_from_wire({"data": [entry], "object": "list"})
    assert (card.status, card.n_ctx, card.n_ctx_train, card.capabilities) == ("unloaded", None, 4096, ())
