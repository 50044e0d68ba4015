"""A step taken apart: what each part takes, by the clock, so that the parts sum to the step."""

import ctypes
import itertools
import time
from typing import NamedTuple

from thermoscope.engine.engine import Engine
from thermoscope.models.fused import Fused
from thermoscope.models.kernels import native

# Without the native step its parts are `layers` in one.
PARTS = (*native.PARTS, "layers", "head", "sampler", "python")


class Event(NamedTuple):
    """A part that ended, when, and the native step's counters of nanoseconds then."""

    time: float
    part: str
    spent: tuple[int, ...]


class Watch:
    """Listens to an engine, as a context manager: `Engine.watch` and the counters of the native step."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._events: list[Event] = []
        self._spent: ctypes.Array[ctypes.c_int64] | None = None

    def __enter__(self) -> "Watch":
        decoder = self._engine.model.decoder
        if isinstance(decoder, Fused):
            decoder.spent = self._spent = (ctypes.c_int64 * len(native.PARTS))()
        self._engine.watch = self._note
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.watch = None
        if isinstance(self._engine.model.decoder, Fused):
            self._engine.model.decoder.spent = None

    def step(self, first: float, last: float) -> dict[str, float]:
        """Seconds by part of the mean step between two moments; their sum is its length."""
        inside = [event for event in self._events if first <= event.time <= last]
        parts: dict[str, float] = {}
        for before, event in itertools.pairwise(inside):
            took, name = event.time - before.time, event.part
            if name == "layers" and event.spent:
                counted = [(now - then) / 1e9 for now, then in zip(event.spent, before.spent, strict=True)]
                for part, seconds in zip(native.PARTS, counted, strict=True):
                    parts[part] = parts.get(part, 0.0) + seconds
                took, name = took - sum(counted), "python"
            parts[name] = parts.get(name, 0.0) + took
        steps = sum(event.part == "head" for event in inside[1:])
        return {part: parts[part] / steps for part in PARTS if part in parts} if steps else {}

    def _note(self, part: str) -> None:
        self._events.append(Event(time.perf_counter(), part, tuple(self._spent or ())))
