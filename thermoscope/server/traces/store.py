"""Traces kept while answers are spoken: one transaction for what a step brought, then its tokens go out.

Without a path the tables are in memory and hold the last answers only; the rest is the same.
"""

import contextlib
import queue
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermoscope.errors import ThermoscopeError, TraceNotFound
from thermoscope.server.traces.tables import Answer, Summary, Tables

if TYPE_CHECKING:
    from thermoscope.engine.sequence import Delta
    from thermoscope.upstream.trace import Piece
    from thermoscope.upstream.trace import Trace as SeenTrace

KEPT = 256  # traces in memory
PATIENCE = 10  # seconds for a disk
KEPT_BYTES = 2**27  # of their steps together; with many alternatives to each token a step is long

Then = Callable[[Exception | None], None]
Write = Callable[[], Exception | None]  # gives what went wrong with it alone


class Traces:
    """What answers left behind, by the id of their request. Safe from any thread.

    `path`: of a file that keeps all of them; None for memory, and the last 256.

    **Errors:** `InvalidRequest` for a file that cannot be opened or is not ours.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._tables = Tables(path)
        self._lock = threading.Lock()  # of the tables
        self._open: dict[str, int] = {}  # traces under way, each with the number of its answers
        self._rows: dict[tuple[str, int], list[int]] = {}  # of an answer under way: its row, and steps so far
        self._sizes: dict[str, int] = {}  # bytes of each trace in memory, oldest first
        self._queue: queue.SimpleQueue[tuple[Write, Then] | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def begin(self, answers: Sequence[Answer]) -> str:
        """Open a trace of these answers, which have no steps yet; their choices are numbered through."""
        trace = f"trace_{uuid.uuid4().hex}"
        heads = [replace(answer, choice=choice) for choice, answer in enumerate(answers)]
        self._open[trace] = len(heads)
        self._put(lambda: self._begin(trace, heads))
        return trace

    def add(self, trace: str, delta: "Delta | Piece", then: Then) -> None:
        """Keep a delta; once it is written, or could not be, `then` is told, on another thread."""
        self._put(lambda: self._add(trace, delta), then)

    def finish(self, trace: str, answer: "SeenTrace") -> None:
        """An answer is complete, and its last step came before that was said."""
        self._put(lambda: self._finish(trace, answer))

    def follow(self, then: Then) -> None:
        """Tell `then` once all that came before is written."""
        self._put(lambda: None, then)

    def end(self, trace: str) -> None:
        """Nothing more comes; answers without an end were cut."""
        self._put(lambda: self._end(trace))

    def get(self, trace: str, choice: int | None = None) -> list[dict[str, Any]]:
        """The answers of a trace, or one of them, as `Trace.to_dict` gives them.

        **Errors:** `TraceNotFound`.
        """
        self._catch_up()
        with self._lock:
            answers = self._tables.answers(trace, choice)
        if not answers:
            raise _not_found(repr(trace) if choice is None else f"{trace!r}, answer {choice}")
        return answers

    def describe(self, trace: str) -> dict[str, Any]:
        """A trace in a line.

        **Errors:** `TraceNotFound`.
        """
        self._catch_up()
        with self._lock:
            summary = self._tables.summary(trace)
        if summary is None:
            raise _not_found(repr(trace))
        return self._plain(summary)

    def newest(self, limit: int, after: str | None = None) -> list[dict[str, Any]]:
        """The newest traces, each in a line; or those that are older than the trace `after`."""
        self._catch_up()
        with self._lock:
            return [self._plain(summary) for summary in self._tables.newest(limit, after)]

    def close(self) -> None:
        """Write what is in hand, and leave the file."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
        self._tables.close()

    def _catch_up(self) -> None:
        """Wait for what was given before: who has read an answer's end finds it here."""
        if self._writer is not None and self._writer.is_alive():
            caught = threading.Event()
            self.follow(lambda _: caught.set())
            caught.wait(PATIENCE)

    def _put(self, write: Write, then: Then = lambda _: None) -> None:
        self._queue.put((write, then))
        if self._writer is None:
            with self._lock:
                if self._writer is None:
                    self._writer = threading.Thread(target=self._work, name="traces", daemon=True)
                    self._writer.start()

    def _work(self) -> None:
        """Write all that is there in one transaction: what a step brings comes within a moment."""
        while (first := self._queue.get()) is not None:
            batch, last = [first], False
            with contextlib.suppress(queue.Empty):
                while not last:
                    item = self._queue.get_nowait()
                    last = item is None
                    batch += [] if item is None else [item]
            try:
                with self._lock, self._tables:
                    failures = [write() for write, _ in batch]
            except Exception as error:  # a full disk, or what a table cannot hold; the others' answers go on
                self._rows.clear()  # none of the batch is written, and its rows' numbers will be others'
                failures = [self._lost(error)] * len(batch)
            for (_, then), failure in zip(batch, failures, strict=True):
                with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody listens
                    then(failure)
            if last:
                return

    def _lost(self, why: object) -> ThermoscopeError:
        return ThermoscopeError(
            f"trace: it could not be kept in {self._path or 'memory'} ({why}); ask without one."
        )

    def _begin(self, trace: str, heads: Sequence[Answer]) -> None:
        for head in heads:
            self._rows[trace, head.choice] = [self._tables.begin(trace, head), 0]
        if self._path is None:
            self._sizes[trace] = 0
            self._forget()

    def _add(self, trace: str, delta: "Delta | Piece") -> Exception | None:
        row = self._rows.get((trace, delta.choice))
        if row is None:  # after its end nobody waits for it; before, something of it was not written
            return self._lost("a part of it was lost") if trace in self._open else None
        size = self._tables.add(row[0], row[1], delta.text, delta.step)
        row[1] += 1
        if self._path is None:
            self._sizes[trace] += size
        if delta.trace is not None:
            self._tables.end(row[0], replace(delta.trace, choice=delta.choice), delta.finish_reason)
        return None

    def _finish(self, trace: str, answer: "SeenTrace") -> None:
        if (row := self._rows.get((trace, answer.choice))) is not None:
            self._tables.end(row[0], answer, answer.finish_reason)

    def _end(self, trace: str) -> None:
        for choice in range(self._open.pop(trace, 0)):
            self._rows.pop((trace, choice), None)

    def _forget(self) -> None:
        """Drop the oldest traces that have ended, until the others fit into memory."""
        for trace in list(self._sizes):
            if len(self._sizes) <= KEPT and sum(self._sizes.values()) <= KEPT_BYTES:
                return
            if trace not in self._open:
                self._tables.forget(trace)
                del self._sizes[trace]

    def _plain(self, summary: Summary) -> dict[str, Any]:
        status = "running" if summary.trace in self._open else "cut"
        return {
            "id": summary.trace,
            "object": "trace",
            "created": int(summary.created),
            "status": "complete" if summary.ended == summary.answers else status,
            "answers": summary.answers,
            "steps": summary.steps,
        }


def _not_found(which: str) -> TraceNotFound:
    return TraceNotFound(f"trace: got {which}, expected one that is kept here; /v1/traces lists them.")
