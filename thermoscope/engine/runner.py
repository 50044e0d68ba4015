"""The engine in a thread of its own: submit from anywhere, asleep while there is nothing to do.

All tensor work of a process belongs on this one thread. OpenMP keeps a pool of workers for each thread
that ever ran a parallel region; with two pools on the same cores neither may spin, and decoding takes
twice as long. So the model is loaded here too, and `call` runs whatever else wants to compute.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from thermoscope.engine.engine import Engine, Generation
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.request import Request
from thermoscope.engine.sequence import Delta, Sequence
from thermoscope.engine.trace import Trace
from thermoscope.errors import EngineStopped, TimedOut, TooBusy

Deliver = Callable[[Delta | Exception], None]
Result = TypeVar("Result")

RECENT = 32  # answers whose ends say how fast places come free
LONGEST_WAIT = 60  # seconds that a client is told to wait; OpenAI's ask at once where it is told more


class Ticket:
    """A request on its way. `cancel` is safe from any thread, and twice."""

    def __init__(self, runner: "Runner", generation: Generation, deliver: Deliver) -> None:
        self.generation = generation
        self.deliver = deliver
        self.cancelled = False
        self._runner = runner
        self._since = time.perf_counter()

    @property
    def overdue(self) -> bool:
        """Whether its time is over."""
        return time.perf_counter() - self._since > self.timeout

    @property
    def timeout(self) -> float:
        """Seconds that it is given. What runs in the background has no one who waits for it."""
        request = self.generation.request
        return math.inf if request.background else min(request.timeout, self._runner.timeout)

    @property
    def traces(self) -> list[Trace]:
        """Of its answers in the making, in the order of their choices."""
        return [sequence.trace for sequence in self.generation.sequences]

    def cancel(self) -> None:
        """Stop the answers; their slots are free at the next step, and nothing more is delivered."""
        self.cancelled = True
        self._runner.wake()


class Runner:
    """Steps the engine while requests are open.

    `build` makes the engine, on the thread that will run it; what it raises, the constructor raises.

    - `queue`: answers that wait for a slot at most, None for any number; the background does not count.
    - `timeout`: seconds from a request's arrival to its last token at most.
    """

    def __init__(self, build: Callable[[], Engine]) -> None:
        self._arrived: list[Ticket] = []
        self._calls: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._later: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._rest = 0.0  # until when calls in the background wait for those who speak
        self._open: dict[Sequence, Ticket] = {}
        self._condition = threading.Condition()
        self._stopping = False
        self._closed = False
        self._ends: deque[float] = deque(maxlen=RECENT)
        self.queue: int | None = None
        self.timeout = math.inf
        built: Future[Engine] = Future()
        self._thread = threading.Thread(target=self._start, args=(build, built), name="engine", daemon=True)
        self._thread.start()
        self.engine = built.result()

    @property
    def slots(self) -> int:
        """Answers that can be decoded at once."""
        return len(self.engine.scheduler.running)

    @property
    def running(self) -> int:
        """Answers that hold a slot."""
        return sum(sequence is not None for sequence in self.engine.scheduler.running)

    @property
    def waiting(self) -> int:
        """Answers that wait for one."""
        return len(self.engine.scheduler.waiting) + sum(
            len(ticket.generation.sequences) for ticket in self._arrived
        )

    @property
    def cache_use(self) -> float:
        """Share of the places of the cache that answers under way have filled, 0 to 1."""
        filled = sum(sequence.filled for sequence in self.engine.scheduler.running if sequence is not None)
        return filled / (self.slots * self.engine.context)

    @property
    def closed(self) -> bool:
        """Whether no further requests are taken."""
        return self._closed

    @property
    def idle(self) -> bool:
        """Whether no request is under way, nor waits."""
        with self._condition:
            return not (self._arrived or self._open)

    def compile(self, grammar: Grammar) -> None:
        """Have a grammar ready for requests to come. It may take a second, on the caller's thread.

        **Errors:** `InvalidRequest` for one that cannot be used.
        """
        self.engine.guides.guide(grammar)

    def submit(self, request: Request, deliver: Deliver) -> Ticket:
        """Queue a request. `deliver` gets its deltas, or one exception, on the engine's thread.

        **Errors:** `InvalidRequest` at once if the model cannot take it; `TooBusy` if the queue is full;
        `EngineStopped` after `close` and `stop`.
        """
        ticket = Ticket(self, self.engine.prepare(request), deliver)
        with self._condition:
            if self._stopping:
                raise EngineStopped("engine: it was stopped; start it again to go on.")
            if self._closed:
                raise EngineStopped("engine: it is being stopped and takes nothing new; ask again later.")
            if not request.background:
                self._check_queue()
            self._arrived.append(ticket)
            self._condition.notify()
        return ticket

    def call(self, function: Callable[[], Result], *, background: bool = False) -> Result:
        """Run a function on the engine's thread, between two steps, and wait for what it gives.

        `background`: take no more than a third of the time while somebody's answer is under way.

        **Errors:** what the function raises; `EngineStopped` after `stop`.
        """
        return self.post(function, background=background).result()

    def post(self, function: Callable[[], Result], *, background: bool = False) -> "Future[Result]":
        """`call` without the wait, for an event loop. Cancelled before its turn, it is not run.

        **Errors:** `EngineStopped` after `stop`.
        """
        outcome: Future[Result] = Future()
        with self._condition:
            if self._stopping:
                raise EngineStopped("engine: it was stopped; start it again to go on.")
            (self._later if background else self._calls).append((function, outcome))
            self._condition.notify()
        return outcome

    def wake(self) -> None:
        """Look at once for cancelled requests."""
        with self._condition:
            self._condition.notify()

    def close(self) -> None:
        """Take no further requests; those that are there go on."""
        with self._condition:
            self._closed = True

    def stop(self) -> None:
        """End the thread after the step in flight; open requests get `EngineStopped`."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        self._thread.join()

    def _start(self, build: Callable[[], Engine], built: "Future[Engine]") -> None:
        try:
            self.engine = build()
        except BaseException as error:
            built.set_exception(error)
        else:
            built.set_result(self.engine)
            self._run()

    def _run(self) -> None:
        while self._collect():
            try:
                deltas = self.engine.step()
            except Exception as error:
                self._fail(error)
                continue
            for sequence, delta in deltas:
                ticket = self._open.get(sequence)
                if ticket is None:  # another answer of the same request failed in this step
                    continue
                if isinstance(delta, Exception):
                    self._drop(ticket, delta)
                    continue
                if delta.finish_reason:
                    del self._open[sequence]
                    self._ends.append(time.perf_counter())
                if not ticket.cancelled:
                    _deliver(ticket, delta)
        self._fail(EngineStopped("engine: it was stopped before the answer was finished; ask again."))

    def _collect(self) -> bool:
        """Take in arrivals, drop what was cancelled, sleep while idle; False when it is time to end."""
        while True:
            with self._condition:
                while not (self._stopping or self._arrived or self._calls or self._later or self._open):
                    self._condition.wait()
                arrived, self._arrived = self._arrived, []
                for ticket in arrived:  # in the same breath, so that nobody finds it in neither
                    self._open.update(dict.fromkeys(ticket.generation.sequences, ticket))
                calls, self._calls = self._calls, []
                # Read beside what arrived: whatever came in before `stop` is in hand, and gets its answer.
                stopping = self._stopping
            for function, outcome in calls:
                _answer(function, outcome)
            for ticket in arrived:
                self.engine.submit(ticket.generation)
            for ticket in {each for each in self._open.values() if each.cancelled or each.overdue}:
                self._drop(ticket, _timed_out(ticket))
            self._call_later(stopping=stopping)
            if stopping or self._open:
                return not stopping

    def _call_later(self, *, stopping: bool) -> None:
        """One call in the background, if it is its turn; all of them before the end, so that none hangs."""
        speaking = any(not sequence.request.background for sequence in self._open)
        while self._later and (stopping or not speaking or time.perf_counter() >= self._rest):
            began = time.perf_counter()
            _answer(*self._later.popleft())
            now = time.perf_counter()
            self._rest = now + 2 * (now - began)
            if not stopping:
                return

    def _check_queue(self) -> None:
        """Refuse one more request where no slot is free and the queue is full."""
        if self.queue is None:
            return
        arrived = [sequence for ticket in self._arrived for sequence in ticket.generation.sequences]
        waiting = sum(not each.request.background for each in (*list(self._open), *arrived)) - self.slots
        if waiting >= self.queue:
            raise TooBusy(
                f"queue: {waiting} answers wait already, and no more than {self.queue} may; ask again later.",
                retry_after=self._wait(waiting),
            )

    def _wait(self, waiting: int) -> int:
        """Seconds until those who wait have a slot, if places come free as they did lately."""
        ends = list(self._ends)
        if len(ends) < 2:
            return 5
        pace = (time.perf_counter() - ends[0]) / len(ends)
        return min(LONGEST_WAIT, max(1, math.ceil(max(1, waiting) * pace)))

    def _fail(self, error: Exception) -> None:
        """A failed step ends all open requests: which of them it was is not known."""
        for ticket in set(self._open.values()):
            self._drop(ticket, error)

    def _drop(self, ticket: Ticket, error: Exception) -> None:
        """An error in place of what is left of a request."""
        self.engine.cancel(ticket.generation)
        for sequence in ticket.generation.sequences:
            self._open.pop(sequence, None)
        if not ticket.cancelled:
            _deliver(ticket, error)


def _deliver(ticket: Ticket, item: Delta | Exception) -> None:
    # A receiver that fails, its event loop being gone, must not take the other requests with it.
    try:
        ticket.deliver(item)
    except Exception:
        ticket.cancelled = True


def _timed_out(ticket: Ticket) -> TimedOut:
    said = [len(sequence.trace.steps) for sequence in ticket.generation.sequences]
    return TimedOut(
        f"timeout: got {sum(said)} tokens in the {ticket.timeout:g} seconds that the request was given; "
        "ask for fewer tokens, or for more time."
    )


def _answer(function: Callable[[], Any], outcome: "Future[Any]") -> None:
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        outcome.set_result(function())
    except Exception as error:
        outcome.set_exception(error)
