"""Who may run beside whom where the slots of a server share one context."""

from itertools import count

from llamacpp_server.transport import Gate, Place, PromptSize, Ticket

THREADS = count(1)


def entered(gate, size, *, alone=False, shown=False):
    place = Place(limit=1 if alone else None)
    place.thread = next(THREADS)
    place.alone, place.shown = alone, shown
    place.prompt = PromptSize({"prompt": "a" * size, "max_tokens": 0})
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


def test_prompts_run_in_parallel_where_each_slot_has_its_own_context():
    gate, _ = of_four_slots(shared=False)
    assert entered(gate, 300).granted


def test_what_has_to_run_alone_waits_for_all_others():
    gate, first = of_four_slots(shared=False)
    alone = entered(gate, 10, alone=True)
    assert not alone.granted
    first.leave()
    assert alone.granted


def test_a_stream_and_what_runs_beside_it_must_fit_while_nobody_knows_whether_the_context_is_shared():
    gate, _ = of_four_slots(shared=None)
    second = entered(gate, 300)
    assert second.granted, "an answer that nobody has seen can be begun again"
    stream = entered(gate, 50, shown=True)
    assert not stream.granted


def test_a_reply_waits_for_a_stream_that_it_could_crowd_out():
    gate = Gate()
    gate.resize(4, 512)
    streams = [entered(gate, 150, shown=True) for _ in range(3)]
    gate.resize(4, 512)
    assert all(stream.granted for stream in streams), "they fit together"
    reply = entered(gate, 100)
    assert not reply.granted
    streams[0].leave()
    assert reply.granted


def test_streams_run_beside_each_other_once_the_slots_hold_more_than_one_context():
    gate, _ = of_four_slots(shared=None)
    stream = entered(gate, 300, shown=True)
    assert gate.crowd(16)
    gate.note_tokens(512)
    assert not stream.granted
    gate.note_tokens(513)
    assert stream.granted
    assert not gate.crowd(16)


def test_prompts_that_fit_by_their_bytes_need_no_count():
    gate = Gate()
    gate.shares_context = True
    kept = [entered(gate, 100) for _ in range(9)]
    gate.resize(4, 512)
    assert sum(ticket.granted for ticket in kept) == 4
    assert not gate.crowd(16)
