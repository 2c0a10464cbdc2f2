"""Who may run beside whom where the slots of a server share one context."""

from itertools import count

from llamacpp_server.transport import Gate, Place, PromptSize, Ticket

THREADS = count(1)


def entered(gate, size, *, alone=False):
    place = Place(limit=1 if alone else None)
    place.thread = next(THREADS)
    place.alone, place.prompt = alone, PromptSize({"prompt": "a" * size, "max_tokens": 0})
    ticket = Ticket()
    ticket.enter(gate, place)
    return ticket


def of_four_slots(*, shared):
    gate = Gate()
    first = entered(gate, 300)
    gate.shares_context = shared
    gate.resize(4, 512)
    return gate, first


def test_prompts_that_do_not_fit_together_run_one_after_the_other():
    gate, first = of_four_slots(shared=True)
    second = entered(gate, 300)
    assert (first.granted, second.granted) == (True, False)
    assert entered(gate, 100).granted is False, "nobody passes one that waits"
    first.leave()
    assert second.granted


def test_prompts_run_beside_each_other_where_each_slot_has_its_own_context():
    gate, _ = of_four_slots(shared=False)
    assert entered(gate, 300).granted


def test_what_has_to_run_alone_waits_for_all_others():
    gate, first = of_four_slots(shared=False)
    alone = entered(gate, 10, alone=True)
    assert not alone.granted
    first.leave()
    assert alone.granted
