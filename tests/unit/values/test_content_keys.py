"""Keys by which what was made of a value before is looked up."""

from dataclasses import replace
from typing import Any

import pytest

from llamacpp_server import ChatRequest, Timings
from llamacpp_server._values import KeyedList, content_key, of_key, small_key, with_changes


@pytest.mark.parametrize("value", [{"a": [1, 1.0, True, None, "é"]}, [], "text", {1: {"b": ()}}])
def test_a_value_comes_back_from_its_key_with_its_types(value: Any) -> None:
    key = content_key(value)
    assert key is not None
    assert repr(of_key(key)) == repr(value)


def test_equal_values_have_one_key_whatever_else_refers_to_them() -> None:
    word = "".join(["wo", "rd"])
    assert content_key([word, word]) == content_key(["wo" + "rd"[:2], "".join(["wor", "d"])])


@pytest.mark.parametrize(
    "pair", [([1], [True]), ([1], [1.0]), ([1], ["1"]), ([[]], [()]), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]
)
def test_values_that_differ_in_a_type_or_an_order_have_two_keys(pair: tuple[Any, Any]) -> None:
    assert content_key(pair[0]) != content_key(pair[1])


def test_what_holds_itself_has_no_key_and_takes_no_time() -> None:
    once: list[Any] = []
    once.append(once)
    twice: dict[str, Any] = {}
    twice.update(first=twice, second=[twice, twice])
    assert content_key(once) is content_key(twice) is None


class _Word(str):
    __slots__ = ()


@pytest.mark.parametrize("value", [object(), [_Word("a")], {"a": "\ud800"}])
def test_values_that_are_not_json_have_no_key(value: Any) -> None:
    assert content_key(value) is None


def test_a_keyed_list_is_known_by_the_key_it_was_given() -> None:
    tools = [{"type": "function"}]
    assert content_key(KeyedList(tools, content_key(tools))) == content_key(tools)
    assert content_key(KeyedList(tools, None)) is None


def test_the_key_depends_on_what_is_held_now_and_on_no_other_reference() -> None:
    inner = {"city": "Paris"}
    value = [inner]
    before = content_key(value)
    held = [inner, value]
    assert content_key(value) == before
    inner["city"] = "Rome"
    assert content_key(value) == content_key([{"city": "Rome"}]) != before
    assert len(held) == 2


@pytest.mark.parametrize("value", [{"a": [1, 1.0, True, None, "é"]}, {}, {"a": ()}])
def test_a_small_value_comes_back_from_its_key_with_its_types(value: Any) -> None:
    key = small_key(value)
    assert key is not None
    assert repr(of_key(key)) == repr(value)


@pytest.mark.parametrize("value", [{"a": "b" * 2000}, {"a": object()}, type("D", (dict,), {})()])
def test_a_large_value_or_an_object_has_no_small_key(value: Any) -> None:
    assert small_key(value) is None


@pytest.mark.parametrize("value", [Timings(prompt_n=2), ChatRequest(messages=[{"role": "user", "content": "Hi"}])])
def test_a_value_with_changes_is_what_dataclasses_make_of_it(value: Any) -> None:
    before = repr(value)
    for changes in ({}, {next(iter(value.__slots__)): 5}):
        assert with_changes(value, **changes) == replace(value, **changes)
    assert repr(value) == before
