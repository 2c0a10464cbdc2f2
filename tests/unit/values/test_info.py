"""One snapshot of a server, put together from what it says of itself and lists."""

import pytest

from llamacpp_server import ModelCard, ServerInfo, ServerProps

PROPS = ServerProps(
    n_ctx=2048, total_slots=2, model_alias="alias", model_path="/m/a.gguf", build_info="b1-x",
    chat_template="{{ tools }}{{ enable_thinking }}", modalities={"vision": True, "audio": False, "video": False},
    chat_template_caps={"supports_tools": True, "supports_parallel_tool_calls": False},
)  # fmt: skip
CARD = ModelCard("m", aliases=("nick",), n_ctx=1024, n_ctx_train=4096, n_embd=64, input_modalities=("text", "image"))


def test_everything_is_known_of_a_server_of_this_build():
    info = ServerInfo.build_from(PROPS, [CARD], None)
    assert (info.model, info.build, info.n_ctx, info.n_ctx_train, info.n_embd, info.total_slots) == (
        "m", "b1-x", 2048, 4096, 64, 2
    )  # fmt: skip
    assert (info.vision, info.audio, info.video, info.tools, info.parallel_tool_calls) == (
        True, False, False, True, False
    )  # fmt: skip
    assert (info.thinking, info.is_router, info.is_sleeping, info.status) == ("enable_thinking", False, False, None)


def test_nothing_is_claimed_of_a_server_that_says_nothing():
    info = ServerInfo.build_from(None, [], None)
    assert info == ServerInfo()
    assert (info.vision, info.tools, info.thinking, info.n_ctx) == (None, None, None, None)


def test_an_old_build_is_known_by_its_template_and_its_list():
    old = ServerProps(n_ctx=512, total_slots=1, chat_template="{% if tools %}x{% endif %}")
    info = ServerInfo.build_from(old, [CARD], None)
    assert (info.tools, info.vision, info.audio, info.parallel_tool_calls) == (True, True, False, None)


@pytest.mark.parametrize(
    ("template", "switch"),
    [("", None), ("{{ x }}", "none"), ("{{ '<think>' }}", "always"), ("{{ reasoning_effort }}", "reasoning_effort"),
     ("{{ enable_thinking }}<think>", "enable_thinking")],
)  # fmt: skip
def test_how_a_template_switches_thinking(template, switch):
    assert ServerInfo.build_from(ServerProps(chat_template=template), [], None).thinking == switch


GPT_OSS = (
    "{%- if reasoning_effort is not defined %}{%- set reasoning_effort = 'medium' %}{%- endif %}{{ reasoning_effort }}"
)


@pytest.mark.parametrize(
    ("template", "efforts", "default"),
    [
        ("", None, None),
        ("{{ enable_thinking }}", (), None),
        ("{{ reasoning_effort }}", ("low", "medium", "high"), None),
        (GPT_OSS, ("low", "medium", "high"), "medium"),
        ("{% if reasoning_effort == 'min' %}a{% elif reasoning_effort == \"max\" %}b{% endif %}", ("min", "max"), None),
        ("{% if reasoning_effort not in ['low', 'max'] %}{% endif %}", ("low", "max"), None),
        ("{% if reasoning_effort != 'none' %}{% endif %}", ("low", "medium", "high"), None),
        ("{{ reasoning_effort | default('deep') }}{{ reasoning_effort == 'flat' }}", ("deep", "flat"), "deep"),
    ],
)
def test_which_levels_of_reasoning_a_template_has(template, efforts, default):
    info = ServerInfo.build_from(ServerProps(chat_template=template), [], None)
    assert (info.efforts, info.default_effort) == (efforts, default)


@pytest.mark.parametrize(
    ("template", "late"),
    [
        ("", None),
        ("{% for message in messages %}{{ message.role + message.content }}{% endfor %}", True),
        ("{{ '<|' + message['role'] }}", True),
        ("{{ message['role'] ~ 'x' }}{{ raise_exception('System message must be at the beginning.') }}", False),
        ("{% if message.role == 'user' %}{{ message.content }}{% endif %}", False),
    ],
)
def test_whether_a_template_renders_a_late_system_message_where_it_is(template, late):
    assert ServerInfo.build_from(ServerProps(chat_template=template), [], None).late_system is late


@pytest.mark.parametrize(
    ("asked", "model", "status"),
    [(None, "b", "loaded"), ("a", "a", "unloaded"), ("nick", "nick", "sleeping"), ("zz", "zz", None)],
)
def test_of_a_routers_models_the_one_that_was_named_or_is_loaded(asked, model, status):
    cards = [ModelCard("a", status="unloaded"), ModelCard("b", status="loaded"),
             ModelCard("c", aliases=("nick",), status="sleeping")]  # fmt: skip
    info = ServerInfo.build_from(ServerProps(is_router=True), cards, asked)
    assert (info.model, info.status, info.is_router) == (model, status, True)
    assert info.is_sleeping is (status == "sleeping")


def test_a_server_with_one_model_ignores_the_name():
    info = ServerInfo.build_from(PROPS, [CARD], "whatever")
    assert (info.model, info.n_embd) == ("whatever", 64)
