"""Readings under way: one at a time, behind everybody's answers; a few wait, and the last ones are kept."""

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from thermoscope.errors import InstrumentNotFound, ReadingCancelled, ThermoscopeError, TooBusy
from thermoscope.instruments import Instrument
from thermoscope.instruments.shape.lab import Lab, Progress
from thermoscope.server.errors import UNEXPECTED

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.instruments.shape.reading import Reading
    from thermoscope.instruments.shape.settings import Settings
    from thermoscope.upstream.upstream import Upstream

logger = logging.getLogger(__name__)

WAITING = 16  # readings that wait at most
KEPT = 64  # readings that can be fetched after they ended
NICE = 10  # of the thread that reads, beside the engine's 0

Status = Literal["queued", "running", "completed", "failed", "cancelled"]


class Job:
    """One reading: where it stands, and in the end what it says (`outcome`)."""

    def __init__(
        self, instrument: Instrument, settings: "Settings", machine: "LanguageModel | Upstream"
    ) -> None:
        self.id = f"job_{uuid.uuid4().hex}"
        self.instrument = instrument
        self._settings: Settings | None = settings
        self.created = int(time.time())
        self.progress: Progress | None = None
        self.outcome: Future[Reading] = Future()
        self._lab = Lab.of(machine, watch=self._watch)
        self._listeners: set[Callable[[], object]] = set()
        self.outcome.add_done_callback(lambda _: self._tell())

    @property
    def status(self) -> Status:
        """Where it stands."""
        if not self.outcome.done():
            if self._lab.cancelled:  # it ends at its next piece
                return "cancelled"
            return "running" if self.outcome.running() else "queued"
        if self.error is None:
            return "completed"
        return "cancelled" if isinstance(self.error, ReadingCancelled) else "failed"

    @property
    def error(self) -> BaseException | None:
        """Why a reading that has ended gave nothing."""
        if self.outcome.cancelled():
            return ReadingCancelled("reading: it was cancelled.")
        return self.outcome.exception()

    def cancel(self) -> None:
        """End it, at once if it has not begun, else at its next piece."""
        self._lab.cancel()
        self.outcome.cancel()

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Have a function called, on any thread, whenever something changes; gives what stops that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def run(self) -> None:
        """Take the reading, unless it was called off."""
        if not self.outcome.set_running_or_notify_cancel():
            return
        self._tell()
        settings, self._settings = self._settings, None  # files that it read are not kept with it
        assert settings is not None
        try:
            reading = self.instrument.read(settings, self._lab)
        except ThermoscopeError as error:  # without the frames that it came through, and all that they hold
            self.outcome.set_exception(error.with_traceback(None))
        except Exception as error:
            logger.error("unexpected error while reading %s", self.instrument.name, exc_info=error)
            self.outcome.set_exception(ThermoscopeError(UNEXPECTED))
        else:
            self.outcome.set_result(reading)

    def _watch(self, progress: Progress) -> None:
        self.progress = progress
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            try:
                listener()
            except Exception:  # its event loop is gone, and that is no fault of the reading
                self._listeners.discard(listener)


class Jobs:
    """The readings of one server. Whoever waits for one goes before jobs in the background."""

    def __init__(self, machine: "LanguageModel | Upstream") -> None:
        self._machine = machine
        self._waiting: list[tuple[Job, bool]] = []
        self._background: dict[str, Job] = {}  # ended ones in the order of their ends
        self._condition = threading.Condition()
        self._worker: threading.Thread | None = None

    def submit(self, instrument: Instrument, settings: "Settings", *, background: bool = False) -> Job:
        """Queue a reading.

        **Errors:** `TooBusy` where too many wait.
        """
        job = Job(instrument, settings, self._machine)
        with self._condition:
            if len(self._waiting) >= WAITING:
                raise TooBusy(f"instruments: {WAITING} readings wait already; ask again later.")
            self._waiting.append((job, background))
            if background:
                self._background[job.id] = job
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="reading", daemon=True)
                self._worker.start()
            self._condition.notify()
        return job

    def get(self, job: str) -> Job:
        """The job in the background with that id.

        **Errors:** `InstrumentNotFound`.
        """
        with self._condition:
            if job not in self._background:
                raise InstrumentNotFound(
                    f"job: got {job!r}, expected one that is under way or among the last {KEPT} that ended."
                )
            return self._background[job]

    def cancel(self, job: Job) -> None:
        """Nobody waits for it any more. One in the background can still be asked for, as `cancelled`."""
        job.cancel()
        with self._condition:
            self._waiting = [each for each in self._waiting if each[0] is not job]
            self._trim()

    def _work(self) -> None:
        _step_back()
        while True:
            with self._condition:
                while not self._waiting:
                    self._condition.wait()
                first = min(self._waiting, key=lambda each: each[1])  # of equals the one that came first
                self._waiting.remove(first)
            job = first[0]
            job.run()
            with self._condition:
                if self._background.pop(job.id, None) is not None:
                    self._background[job.id] = job
                self._trim()
            del job, first  # its reading is not held while the next one is waited for

    def _trim(self) -> None:
        ended = [each.id for each in self._background.values() if each.outcome.done()]
        for old in ended[: max(0, len(ended) - KEPT)]:
            del self._background[old]


def _step_back() -> None:
    """Have the engine's threads go first on a core that both want; Linux knows the rank of a thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def describe(job: Job) -> dict[str, Any]:
    """A job without its reading, as JSON."""
    progress = job.progress
    return {
        "id": job.id,
        "object": "instrument.job",
        "instrument": job.instrument.name,
        "created": job.created,
        "status": job.status,
        "progress": None if progress is None else progress._asdict(),
    }
