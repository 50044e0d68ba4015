import pytest

from thermoscope.engine.request import Request
from thermoscope.engine.scheduler import PREFILL_CHUNK, Scheduler
from thermoscope.engine.sequence import Sequence


def sequence(arrival, prompt=1, *, background=False):
    request = Request(prompt=(2,) * prompt, background=background)
    made = Sequence.of(request, choice=0, seed=0, limit=9, model="tiny", precision="fp32")
    made.arrival = arrival
    return made


def step(scheduler):
    """Schedule, and do to the answers what a forward pass does: fill, and draw where all is filled."""
    batch = scheduler.next()
    for each, at_most in batch:
        each.filled += each.span(at_most).count
        if each.pending == 0:
            each.tokens.append(5)
    return batch


def test_answers_start_in_order_of_arrival_as_slots_come_free():
    scheduler = Scheduler(2)
    first, second, third, fourth = made = [sequence(at) for at in range(4)]
    scheduler.add(made)
    assert [each for each, _ in step(scheduler)] == [first, second]
    assert [first.slot, second.slot, third.slot] == [0, 1, None]
    scheduler.remove(second)
    assert second.slot is None
    assert [each for each, _ in step(scheduler)] == [first, third]
    assert third.slot == 1
    scheduler.remove(first)
    assert [each for each, _ in step(scheduler)] == [fourth, third]  # by slot
    assert not scheduler.waiting


def test_a_joiner_starts_while_others_go_on():
    scheduler = Scheduler(3)
    early = sequence(0, prompt=3)
    scheduler.add([early])
    assert step(scheduler) == [(early, PREFILL_CHUNK)]
    late = sequence(1)
    scheduler.add([late])
    assert [each for each, _ in step(scheduler)] == [early, late]


def test_a_long_prompt_delays_the_others_by_a_chunk_and_no_more():
    scheduler = Scheduler(4)
    talking = sequence(0)
    scheduler.add([talking])
    step(scheduler)
    long, longer = sequence(1, prompt=2 * PREFILL_CHUNK + 10), sequence(2, prompt=PREFILL_CHUNK + 1)
    scheduler.add([longer, long])  # whoever takes the lower slot, the earlier arrival reads first
    rows = []
    for _ in range(5):
        batch = step(scheduler)
        assert batch[0] == (talking, 1)
        rows.append({each.arrival: at_most for each, at_most in batch[1:]})
    assert rows[:3] == [{1: PREFILL_CHUNK}] * 3
    assert rows[3] == {1: 1, 2: PREFILL_CHUNK}
    assert rows[4] == {1: 1, 2: 1}


def test_a_chunk_that_leaves_one_token_of_a_prompt_is_finished_as_a_decoding_step():
    scheduler = Scheduler(1)
    only = sequence(0, prompt=PREFILL_CHUNK + 1)
    scheduler.add([only])
    assert step(scheduler) == [(only, PREFILL_CHUNK)]
    assert only.pending == 1
    assert step(scheduler) == [(only, 1)]
    assert len(only.tokens) == PREFILL_CHUNK + 2


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (8, 4)])
def test_the_background_takes_half_the_slots_at_most_so_that_newcomers_find_one(slots, most):
    scheduler = Scheduler(slots)
    behind = [sequence(at, background=True) for at in range(slots + 1)]
    scheduler.add(behind)
    assert [each for each, _ in step(scheduler)] == behind[:most]
    newcomers = [sequence(9 + at) for at in range(slots - most)]
    scheduler.add(newcomers)
    assert [each for each, _ in step(scheduler)] == behind[:most] + newcomers
    scheduler.remove(behind[0])
    assert behind[most] in [each for each, _ in step(scheduler)]


@pytest.mark.parametrize("steps", [0, 1])
def test_removing_is_safe_for_one_that_waits_runs_or_has_left(steps):
    scheduler = Scheduler(1)
    runs, waits = sequence(0), sequence(1)
    scheduler.add([runs, waits])
    for _ in range(steps):
        step(scheduler)
    for each in (waits, runs, runs, waits):
        scheduler.remove(each)
    assert not scheduler.waiting
    assert scheduler.running == [None]
    assert scheduler.next() == []
