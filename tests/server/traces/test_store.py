"""Traces in memory and in a file: what is kept, in which order, and what becomes of the rest."""

import queue
import sqlite3
import stat
import threading
import time

import pytest

from tests.server import scripted
from thermoscope.engine.trace import Step, Trace
from thermoscope.errors import InvalidRequest, ThermoscopeError, TraceNotFound
from thermoscope.server.traces import store as module
from thermoscope.server.traces.coding import pack
from thermoscope.server.traces.store import Traces


def head(choice=0):
    return Trace(
        model="m",
        precision="int4",
        prompt=(1, 2),
        sampling={"temperature": float("inf"), "seed": 3},
        choice=choice,
    )


def deltas(trace, length, finish="stop", choice=0):
    """An answer of so many steps, each with a character; its end if it has one."""
    for at in range(length):
        step = Step(at, chr(97 + at), bytes([97 + at]), 1.5, scripted.record(at))
        trace.steps.append(step)
        trace.text += step.text
        last = at == length - 1 and finish is not None
        if last:
            trace.finish_reason, trace.prefill_ms = finish, 1.5
        yield scripted.Delta(choice, step.text, step, finish if last else None, trace if last else None)


def keep(traces, trace, some):
    """Hand deltas over, and wait until each is written."""
    told = queue.SimpleQueue()
    for delta in some:
        traces.add(trace, delta, told.put)
        assert told.get(timeout=5) is None


def flush(traces):
    done = threading.Event()
    traces.follow(lambda _: done.set())
    assert done.wait(5)


@pytest.fixture(params=["memory", "file"])
def path(request, tmp_path):
    return tmp_path / "traces.db" if request.param == "file" else None


@pytest.fixture
def traces(path):
    traces = Traces(path)
    yield traces
    traces.close()


def test_an_answer_comes_back_as_it_was(traces):
    answer = head()
    trace = traces.begin([answer])
    keep(traces, trace, deltas(answer, 5))
    (kept,) = traces.get(trace)
    assert kept == answer.to_dict()
    assert Trace.from_dict(kept) == answer


def test_answers_are_numbered_through(traces):
    answers = [head(0), head(1), head(0)]
    trace = traces.begin(answers)
    for choice in (2, 0, 1):
        keep(traces, trace, deltas(answers[choice], choice + 1, choice=choice))
    assert [(each["choice"], each["text"]) for each in traces.get(trace)] == [(0, "a"), (1, "ab"), (2, "abc")]
    assert traces.get(trace, 1) == traces.get(trace)[1:2]


def test_from_running_to_complete(traces):
    answer = head()
    trace = traces.begin([answer])
    flush(traces)
    assert traces.describe(trace)["status"] == "running"
    keep(traces, trace, deltas(answer, 3))
    traces.end(trace)
    flush(traces)
    line = traces.describe(trace)
    assert (line["id"], line["status"], line["answers"], line["steps"]) == (trace, "complete", 1, 3)


def test_who_asks_finds_what_was_given_before(traces):
    """However long it takes to write."""
    answer = head()
    trace = traces.begin([answer])
    traces._put(lambda: time.sleep(0.3))
    for delta in deltas(answer, 20):
        traces.add(trace, delta, lambda _: None)
    traces.end(trace)
    line = traces.describe(trace)
    assert (line["status"], line["steps"], len(traces.get(trace)[0]["steps"])) == ("complete", 20, 20)


def test_an_answer_without_an_end_was_cut(traces):
    answer = head()
    trace = traces.begin([answer, head()])
    keep(traces, trace, deltas(answer, 3, finish=None))
    traces.end(trace)
    flush(traces)
    assert traces.describe(trace)["status"] == "cut"
    kept, other = traces.get(trace)
    assert (kept["text"], kept["finish_reason"], kept["prefill_ms"]) == ("abc", None, 1.5)
    assert Trace.from_dict(kept).steps == answer.steps
    assert (other["text"], other["steps"]) == ("", [])


def test_what_comes_after_the_end_is_dropped(traces):
    answer = head()
    trace = traces.begin([answer])
    some = deltas(answer, 3)
    keep(traces, trace, [next(some)])
    traces.end(trace)
    keep(traces, trace, some)
    assert len(traces.get(trace)[0]["steps"]) == 1


def test_the_newest_first(traces):
    ids = [traces.begin([head()]) for _ in range(5)]
    flush(traces)
    assert [line["id"] for line in traces.newest(2)] == ids[:2:-1]
    assert [line["id"] for line in traces.newest(9, after=ids[2])] == ids[1::-1]
    assert traces.newest(9, after=ids[0]) == []


@pytest.mark.parametrize("choice", [None, 0])
def test_a_trace_that_is_not_there(traces, choice):
    with pytest.raises(TraceNotFound, match="got 'trace_x'"):
        traces.get("trace_x", choice)
    trace = traces.begin([head()])
    flush(traces)
    with pytest.raises(TraceNotFound, match="answer 1"):
        traces.get(trace, 1)


def test_memory_forgets_the_oldest_that_ended(monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    traces = Traces()
    running = traces.begin([head()])
    ended = []
    for _ in range(4):
        answer = head()
        ended.append(traces.begin([answer]))
        keep(traces, ended[-1], deltas(answer, 2))
        traces.end(ended[-1])
    flush(traces)
    assert [line["id"] for line in traces.newest(9)] == [ended[3], ended[2], running]
    traces.close()


def test_memory_forgets_long_ones_sooner(monkeypatch):
    size = sum(map(len, pack(next(deltas(head(), 1)).step)))
    monkeypatch.setattr(module, "KEPT_BYTES", 10 * size)
    traces, ids = Traces(), []
    for _ in range(3):
        answer = head()
        ids.append(traces.begin([answer]))
        keep(traces, ids[-1], deltas(answer, 8))
        traces.end(ids[-1])
    traces.begin([head()])
    flush(traces)
    assert [line["id"] for line in traces.newest(9)][1:] == [ids[2]]
    assert traces._tables._base.execute("SELECT count(*) FROM step").fetchone() == (8,)
    traces.close()


def test_a_file_keeps_all_of_them_for_the_next_server(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 1)
    path, answer = tmp_path / "traces.db", head()
    before = Traces(path)
    whole = before.begin([answer])
    keep(before, whole, deltas(answer, 4))
    left = before.begin([head()])
    before.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    after = Traces(path)
    assert after.get(whole) == [answer.to_dict()]
    assert [(line["id"], line["status"]) for line in after.newest(9)] == [(left, "cut"), (whole, "complete")]
    after.close()


def test_who_is_told_can_read_it_from_another_process(tmp_path):
    """A transaction has ended by then: another connection sees what is written, as the next process would."""
    answer = head()
    traces = Traces(tmp_path / "traces.db")
    trace = traces.begin([answer])
    for count, delta in enumerate(deltas(answer, 5), 1):
        keep(traces, trace, [delta])
        other = sqlite3.connect(tmp_path / "traces.db")
        assert other.execute("SELECT count(*) FROM step").fetchone() == (count,)
        other.close()
    traces.close()


def test_who_asked_is_told_that_it_could_not_be_kept(tmp_path):
    answer = head()
    traces = Traces(tmp_path / "traces.db")
    trace = traces.begin([answer])
    flush(traces)
    traces._tables._base.execute("PRAGMA query_only = 1")
    told = queue.SimpleQueue()
    traces.add(trace, next(deltas(answer, 1)), told.put)
    failure = told.get(timeout=5)
    assert isinstance(failure, ThermoscopeError)
    assert "it could not be kept in" in str(failure)
    traces.close()


def test_what_was_not_written_is_no_part_of_another_trace(traces):
    """A transaction that is undone gives its rows' numbers to those who come next."""
    lost, told = head(), queue.SimpleQueue()
    base = traces._tables._base
    base.execute("PRAGMA query_only = 1")
    trace = traces.begin([lost])
    flush(traces)
    base.execute("PRAGMA query_only = 0")
    other = traces.begin([head()])
    traces.add(trace, next(deltas(lost, 1)), told.put)
    assert isinstance(told.get(timeout=5), ThermoscopeError)
    assert traces.get(other)[0]["steps"] == []
    assert [line["id"] for line in traces.newest(9)] == [other]


def test_what_a_table_cannot_hold_ends_no_other_trace(traces):
    bad, good = head(), head()
    ids, told = [traces.begin([bad]), traces.begin([good])], queue.SimpleQueue()
    flush(traces)
    delta = next(deltas(bad, 1))
    delta.text = "\ud83d"  # half a surrogate pair, as another server's JSON may hold it
    traces.add(ids[0], delta, told.put)
    assert isinstance(told.get(timeout=5), ThermoscopeError)
    after = head()
    keep(traces, traces.begin([after]), deltas(after, 2))


def test_a_listener_that_is_gone_stops_nobody(traces):
    def gone(_):
        raise RuntimeError("Event loop is closed")

    traces.follow(gone)
    flush(traces)


@pytest.mark.parametrize("content", [b"no database at all, but a text of some length", None])
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "other.db"
    if content is None:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE step (id)")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(InvalidRequest, match=r"keep-traces: got .*other\.db"):
        Traces(path)
    assert path.read_bytes() == before
