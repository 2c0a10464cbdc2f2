"""The one switch for thinking, for each kind of template."""

from typing import Any

import pytest

from llamacpp_server import BadRequestError, NotSupportedError, ServerInfo
from llamacpp_server.integration import (
    Thinking,
    supported_effort,
    thinking_params,
)

ON = {"chat_template_kwargs": {"enable_thinking": True}}
OFF = {"chat_template_kwargs": {"enable_thinking": False}}


@pytest.mark.parametrize(
    ("template", "thinking", "expected"),
    [
        ("enable_thinking", None, {}),
        ("enable_thinking", True, ON),
        ("enable_thinking", False, OFF),
        ("enable_thinking", 512, {**ON, "reasoning_budget_tokens": 512}),
        ("enable_thinking", 0, OFF),
        ("enable_thinking", "none", OFF),
        ("reasoning_effort", True, {}),
        ("reasoning_effort", False, {"reasoning_effort": "none"}),
        ("reasoning_effort", "low", {"reasoning_effort": "low"}),
        ("reasoning_effort", 64, {"reasoning_budget_tokens": 64}),
        ("always", True, {}),
        ("always", False, {"reasoning_budget_tokens": 1}),
        ("none", False, {}),
        (None, True, ON),
        (None, "high", {"reasoning_effort": "high"}),
    ],
)
def test_each_template_is_switched_by_its_own_means(
    template: Any, thinking: Thinking, expected: dict[str, Any]
) -> None:
    assert thinking_params(thinking, ServerInfo(thinking=template), {}) == expected


@pytest.mark.parametrize(
    ("template", "thinking"), [("none", True), ("none", 100), ("enable_thinking", "low"), ("always", "high")]
)
def test_what_a_template_cannot_do_is_refused(template: Any, thinking: Thinking) -> None:
    with pytest.raises(NotSupportedError, match="template of tiny"):
        thinking_params(thinking, ServerInfo(model="tiny", thinking=template), {})


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(BadRequestError, match="-1"):
        thinking_params(-1, ServerInfo(), {})


def test_parameters_that_say_it_themselves_win_and_others_stay() -> None:
    given = {"chat_template_kwargs": {"enable_thinking": False, "style": "terse"}, "temperature": 0}
    assert thinking_params(True, ServerInfo(thinking="enable_thinking"), given) == given
    assert given["temperature"] == 0
    assert thinking_params(
        True, ServerInfo(thinking="enable_thinking"), {"chat_template_kwargs": {"style": "terse"}}
    ) == {"chat_template_kwargs": {"enable_thinking": True, "style": "terse"}}


def test_a_level_goes_to_a_template_that_has_levels_next_to_its_switch() -> None:
    info = ServerInfo(thinking="enable_thinking", efforts=("low", "high"))
    assert thinking_params("low", info, {}) == {**ON, "reasoning_effort": "low"}


def test_a_level_for_a_template_without_levels_is_dropped_with_a_repair() -> None:
    info = ServerInfo(model="tiny", thinking="enable_thinking", efforts=())
    params, (repair,) = supported_effort({"reasoning_effort": "low", "seed": 1}, info)
    assert params == {"seed": 1}
    assert repair.name == "effort"
    assert str(repair).startswith("reasoning_effort: dropped: the chat template of tiny has no reasoning levels")
    for kept in (ServerInfo(), ServerInfo(efforts=("low",))):
        assert supported_effort({"reasoning_effort": "low"}, kept) == ({"reasoning_effort": "low"}, ())
    assert supported_effort({"reasoning_effort": "none"}, info) == ({"reasoning_effort": "none"}, ())
