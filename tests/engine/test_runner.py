"""The engine's thread: who may call from where, and how everything ends."""

import queue
import threading
import time

import pytest

from thermoscope.engine.engine import Engine
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.runner import Runner
from thermoscope.errors import ContextExceeded, EngineStopped, InvalidRequest, TimedOut, TooBusy

LONG = 200  # tokens: an answer that is still being spoken when a test looks again


@pytest.fixture
def runner(model):
    made = Runner(lambda: Engine(model, slots=2, context=256))
    yield made
    made.stop()


def ask(seed=1, tokens=5, n=1, **more):
    sampling = Sampling(seed=seed, max_tokens=tokens, n=n, ignore_eos=True)
    return Request(prompt=(10, 20), sampling=sampling, **more)


class Inbox:
    """What was delivered, and on which thread."""

    def __init__(self):
        self.items = queue.SimpleQueue()
        self.threads = set()

    def __call__(self, item):
        self.threads.add(threading.current_thread().name)
        self.items.put(item)

    def finish(self, answers=1):
        deltas = []
        while answers:
            item = self.items.get(timeout=20)
            if isinstance(item, Exception):
                raise item
            deltas.append(item)
            answers -= item.finish_reason is not None
        return deltas


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen within 20 seconds"
        time.sleep(0.002)


def test_the_engine_is_built_and_run_on_one_thread_of_its_own(model):
    where = []

    def build():
        where.append(threading.current_thread())
        return Engine(model, slots=1, context=64)

    runner, inbox = Runner(build), Inbox()
    runner.submit(ask(), inbox)
    assert len(inbox.finish()) == 5
    assert runner.call(threading.current_thread) is where[0] is not threading.current_thread()
    assert inbox.threads == {where[0].name}
    runner.stop()
    assert not where[0].is_alive()


@pytest.mark.parametrize("error", [InvalidRequest("no such thing"), MemoryError(), SystemExit(3)])
def test_what_building_raises_the_constructor_raises(error):
    def build():
        raise error

    with pytest.raises(type(error)) as caught:
        Runner(build)
    assert caught.value is error


def test_submitting_from_many_threads_gives_each_its_own_answer(model, runner):
    expected = {}
    for seed in range(6):
        inbox = Inbox()
        runner.submit(ask(seed), inbox)
        expected[seed] = inbox.finish()[-1].trace.tokens
    got = {}

    def client(seed):
        inbox = Inbox()
        runner.submit(ask(seed), inbox)
        got[seed] = inbox.finish()[-1].trace.tokens

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert got == expected
    assert len(set(got.values())) == 6


def test_a_request_of_many_choices_is_over_when_all_have_ended(runner):
    inbox = Inbox()
    runner.submit(ask(n=5), inbox)
    deltas = inbox.finish(answers=5)
    assert sorted(delta.choice for delta in deltas if delta.finish_reason) == list(range(5))
    assert len(deltas) == 25


def test_what_the_model_cannot_take_is_refused_at_once_and_on_the_callers_thread(runner):
    with pytest.raises(ContextExceeded):
        runner.submit(ask(tokens=255), pytest.fail)
    with pytest.raises(InvalidRequest):
        runner.submit(Request(prompt=(10**6,)), pytest.fail)
    assert (runner.running, runner.waiting) == (0, 0)


def test_counts_are_of_slots_those_in_them_and_those_before_them(runner):
    assert (runner.slots, runner.running, runner.waiting) == (2, 0, 0)
    inbox = Inbox()
    ticket = runner.submit(ask(tokens=LONG, n=5), inbox)
    wait_until(lambda: (runner.running, runner.waiting) == (2, 3))
    ticket.cancel()
    wait_until(lambda: (runner.running, runner.waiting) == (0, 0))


def test_cancelling_frees_the_slots_delivers_nothing_more_and_leaves_others_alone(runner):
    alone = Inbox()
    runner.submit(ask(seed=7, tokens=LONG), alone)
    expected = alone.finish()[-1].trace.tokens
    gone, stays = Inbox(), Inbox()
    ticket = runner.submit(ask(tokens=LONG), gone)
    runner.submit(ask(seed=7, tokens=LONG), stays)
    gone.items.get(timeout=20)
    runner.call(ticket.cancel)  # between two steps: whatever was delivered is here
    delivered = gone.items.qsize()
    wait_until(lambda: runner.running == 1)
    assert stays.finish()[-1].trace.tokens == expected
    assert gone.items.qsize() == delivered < LONG
    ticket.cancel()  # twice, and after its end
    assert runner.running == 0


def test_cancelling_before_the_first_step_delivers_nothing(runner):
    inbox = Inbox()
    hold, held = threading.Event(), threading.Event()
    busy = threading.Thread(target=runner.call, args=(lambda: (held.set(), hold.wait(20)),))
    busy.start()
    held.wait(20)
    runner.submit(ask(), inbox).cancel()
    hold.set()
    busy.join(20)
    wait_until(lambda: runner.waiting == 0)
    assert inbox.items.empty()


def test_stopping_ends_every_open_request_with_one_error(model):
    runner = Runner(lambda: Engine(model, slots=1, context=256))
    speaks, waits = Inbox(), Inbox()
    runner.submit(ask(tokens=LONG), speaks)
    runner.submit(ask(tokens=LONG), waits)
    speaks.items.get(timeout=20)
    runner.stop()
    for inbox in (speaks, waits):
        with pytest.raises(EngineStopped, match="before the answer was finished"):
            inbox.finish()
        assert inbox.items.empty()
    assert (runner.running, runner.waiting) == (0, 0)
    with pytest.raises(EngineStopped, match="start it again"):
        runner.submit(ask(), pytest.fail)
    with pytest.raises(EngineStopped, match="start it again"):
        runner.call(int)
    runner.stop()  # twice


def test_what_arrives_while_a_call_runs_and_the_engine_is_stopped_still_gets_its_end(model):
    runner = Runner(lambda: Engine(model, slots=1, context=256))
    hold, held = threading.Event(), threading.Event()
    slow = threading.Thread(target=runner.call, args=(lambda: (held.set(), hold.wait(20)),))
    slow.start()
    held.wait(20)
    inbox, answers = Inbox(), queue.SimpleQueue()
    runner.submit(ask(), inbox)
    late = threading.Thread(target=lambda: answers.put(runner.call(lambda: "in time")))
    late.start()
    wait_until(lambda: runner._calls)
    stopping = threading.Thread(target=runner.stop)
    stopping.start()
    wait_until(lambda: runner._stopping)
    hold.set()
    with pytest.raises(EngineStopped):
        inbox.finish()
    assert answers.get(timeout=20) == "in time"
    for thread in (slow, late, stopping):
        thread.join(20)
        assert not thread.is_alive()


def test_an_idle_engine_uses_no_processor_time(runner):
    inbox = Inbox()
    runner.submit(ask(), inbox)
    inbox.finish()
    time.sleep(0.3)  # OpenMP's workers spin for a moment after their last work
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_a_call_runs_between_two_steps_of_a_running_answer(runner):
    inbox = Inbox()
    runner.submit(ask(tokens=LONG), inbox)
    inbox.items.get(timeout=20)
    assert runner.call(lambda: sum(each is not None for each in runner.engine.scheduler.running)) == 1
    assert len(inbox.finish()) == LONG - 1


def test_what_a_call_raises_its_caller_gets_and_the_engine_goes_on(runner):
    with pytest.raises(ZeroDivisionError):
        runner.call(lambda: 1 // 0)
    inbox = Inbox()
    runner.submit(ask(), inbox)
    assert len(inbox.finish()) == 5


def test_a_step_that_fails_ends_the_open_requests_and_leaks_no_slot(runner, monkeypatch):
    forward, calls = runner.engine.model.decoder.forward, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 3:
            raise RuntimeError("the third step fails")
        return forward(*args)

    monkeypatch.setattr(runner.engine.model.decoder, "forward", failing)
    inboxes = [Inbox(), Inbox(), Inbox()]
    for seed, inbox in enumerate(inboxes):
        runner.submit(ask(seed, tokens=LONG), inbox)
    for inbox in inboxes:
        with pytest.raises(RuntimeError, match="the third step fails"):
            inbox.finish()
    wait_until(lambda: (runner.running, runner.waiting) == (0, 0))
    again = Inbox()
    runner.submit(ask(n=4), again)
    assert len(again.finish(answers=4)) == 20


@pytest.mark.parametrize("error", [RuntimeError("Event loop is closed"), KeyError("a bug")])
def test_a_receiver_that_fails_loses_its_slot_and_takes_nobody_with_it(runner, error):
    def broken(item):
        raise error

    inbox = Inbox()
    runner.submit(ask(tokens=LONG), broken)
    runner.submit(ask(seed=3, tokens=30), inbox)
    assert len(inbox.finish()) == 30
    wait_until(lambda: runner.running == 0)


def test_the_queue_is_bounded_for_all_but_the_background(runner):
    runner.queue = 1
    tickets = [runner.submit(ask(tokens=LONG, n=2), Inbox()), runner.submit(ask(tokens=LONG), Inbox())]
    with pytest.raises(TooBusy, match="1 answers wait already, and no more than 1") as caught:
        runner.submit(ask(), Inbox())
    assert caught.value.retry_after >= 1
    inbox = Inbox()
    runner.submit(ask(background=True), inbox)
    for ticket in tickets:
        ticket.cancel()
    assert len(inbox.finish()) == 5


def test_with_no_queue_at_all_a_free_slot_is_still_to_be_had(runner):
    runner.queue = 0
    for _ in range(3):
        inbox = Inbox()
        runner.submit(ask(n=5), inbox)  # its own answers do not stand in its way
        inbox.finish(answers=5)
        wait_until(lambda: runner.idle)


def test_the_wait_that_is_told_is_what_the_last_answers_took(runner):
    assert runner._wait(3) == 5  # nothing is known yet
    now = time.perf_counter()
    runner._ends.extend(now - 2 * ago + 0.9 for ago in range(10, 0, -1))  # one every two seconds, nearly
    assert runner._wait(7) == 14
    assert runner._wait(10**6) == 60
    assert runner._wait(0) == 2


def test_a_request_whose_time_is_over_ends_with_one_error_and_frees_its_slot(runner):
    late, stays = Inbox(), Inbox()
    runner.submit(ask(tokens=LONG, n=2, timeout=0.01), late)
    runner.submit(ask(tokens=20), stays)
    with pytest.raises(TimedOut, match=r"in the 0\.01 seconds"):
        late.finish(answers=2)
    assert len(stays.finish()) == 20
    assert late.items.empty()
    wait_until(lambda: (runner.running, runner.waiting) == (0, 0))


def test_the_runners_own_limit_is_for_those_who_are_waited_for(runner):
    runner.timeout = 0.01
    behind, asks = Inbox(), Inbox()
    runner.submit(ask(tokens=LONG, background=True), behind)
    runner.submit(ask(tokens=LONG, timeout=1000), asks)
    with pytest.raises(TimedOut):
        asks.finish()
    assert len(behind.finish()) == LONG


def test_a_time_that_is_none_is_refused():
    with pytest.raises(InvalidRequest, match="timeout"):
        ask(timeout=0)


def test_closing_lets_in_nobody_and_lets_those_inside_finish(model):
    runner, inbox = Runner(lambda: Engine(model, slots=1, context=256)), Inbox()
    runner.submit(ask(n=2, tokens=30), inbox)
    runner.close()
    with pytest.raises(EngineStopped, match="takes nothing new"):
        runner.submit(ask(), Inbox())
    assert not runner.idle
    assert len(inbox.finish(answers=2)) == 60
    wait_until(lambda: runner.idle)
    runner.stop()


def test_calls_in_the_background_rest_while_somebody_speaks(model):
    """Tokens come between two of them, though both were there at once."""
    runner = Runner(lambda: Engine(model, slots=2, context=256))
    try:
        inbox, heard = Inbox(), []
        runner.submit(ask(tokens=LONG), inbox)
        inbox.items.get(timeout=10)
        look = [
            threading.Thread(
                target=runner.call,
                args=(lambda: heard.append(inbox.items.qsize()) or time.sleep(0.02),),
                kwargs={"background": True},
            )
            for _ in range(2)
        ]
        for each in look:
            each.start()
        for each in look:
            each.join(10)
        assert heard[1] > heard[0]
    finally:
        runner.stop()


def test_a_call_in_the_background_runs_at_once_where_nobody_speaks(runner):
    began = time.perf_counter()
    for _ in range(20):
        runner.call(lambda: time.sleep(0.01), background=True)
    assert time.perf_counter() - began < 2


def test_stopping_leaves_no_call_waiting(model):
    runner = Runner(lambda: Engine(model, slots=1, context=256))
    done = threading.Event()
    waiting = threading.Thread(
        target=lambda: (runner.call(lambda: time.sleep(0.2), background=True), done.set())
    )
    waiting.start()
    time.sleep(0.05)
    runner.stop()
    assert done.wait(5)
    with pytest.raises(EngineStopped):
        runner.call(lambda: None, background=True)


def test_a_call_that_nobody_waits_for_any_more_is_not_run(runner):
    ran, held = [], threading.Event()
    first = runner.post(lambda: held.wait(5))
    second = runner.post(lambda: ran.append(2))
    assert second.cancel()
    held.set()
    assert first.result(5)
    assert runner.call(lambda: "still here") == "still here"
    assert not ran
