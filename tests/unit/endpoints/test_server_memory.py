"""What was learned of a server ends with it."""

import pytest

from llamacpp_server import ChatDelta, ReplyStart, ServerProps, ServerSettings
from llamacpp_server._endpoints import OriginCheck, memory_of, recall_by_props
from llamacpp_server.transport import note_refusal


@pytest.fixture
def settings(request):
    return ServerSettings(base_url=f"http://{abs(hash(request.node.name))}.test")


def learn(settings, model=None):
    memory = memory_of(settings.base_url, model)
    memory.needs = frozenset({"same_role"})
    return memory


def needs(settings, model=None):
    return memory_of(settings.base_url, model).needs


def test_each_model_of_each_server_has_a_memory_of_its_own(settings):
    learn(settings, "a")
    assert needs(settings, "a") == {"same_role"}
    assert needs(settings, "b") == needs(settings) == memory_of("http://other.test", "a").needs == frozenset()


def test_a_refused_connection_ends_it(settings):
    learn(settings)
    note_refusal("http://other.test")
    assert needs(settings) == {"same_role"}
    note_refusal(settings.base_url)
    assert needs(settings) == frozenset()
    learn(settings)
    assert needs(settings) == {"same_role"}


def props(template="a", **more):
    return ServerProps.from_wire({"chat_template": template, "model_path": "m.gguf", "build_info": "b1", **more})


@pytest.mark.parametrize("other", [props("b"), props(model_path="n.gguf"), props(build_info="b2")])
def test_other_props_end_it(settings, other):
    recall_by_props(settings, None, props())
    learn(settings)
    assert recall_by_props(settings, None, props()).needs == {"same_role"}
    assert recall_by_props(settings, None, other).needs == needs(settings) == frozenset()


@pytest.mark.parametrize("other", [ReplyStart("2", "n", 1, "b1"), ReplyStart("2", "m", 1, "b2")])
def test_a_reply_of_another_model_or_build_ends_it(settings, other):
    def reply(start):
        deltas = [ChatDelta(start=start), ChatDelta("Hi")]
        assert OriginCheck(settings, None).add(deltas) == deltas

    reply(ReplyStart("1", "m", 0, "b1"))
    learn(settings)
    reply(ReplyStart("3", "m", 5, "b1"))
    assert needs(settings) == {"same_role"}
    reply(other)
    assert needs(settings) == frozenset()


def test_only_what_changes_a_request_is_confirmed_often(settings):
    memory = memory_of(settings.base_url, None)
    assert not memory.is_due(tools=True)  # nothing to compare with
    memory = recall_by_props(settings, None, props())
    memory.tools = True
    memory.confirmed -= 10
    assert (memory.is_due(tools=True), memory.is_due(tools=False)) == (False, False)
    memory.tools = False
    assert (memory.is_due(tools=True), memory.is_due(tools=False)) == (True, False)
    learn(settings)
    assert memory.is_due(tools=False)
    memory.confirmed += 10
    assert not memory.is_due(tools=True)


def test_it_is_bounded(settings):
    first = learn(settings)
    for number in range(1000):
        memory_of("http://many.test", str(number))
        assert number % 100 or memory_of(settings.base_url, None) is first  # what is used stays
    for number in range(1000):
        memory_of("http://more.test", str(number))
    assert needs(settings) == frozenset()
    memory = memory_of(settings.base_url, None)
    for number in range(1001):
        memory.remember_way(str(number), "grammar")
    assert len(memory.ways) == 1
