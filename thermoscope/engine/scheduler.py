"""Who runs in the next step: answers join when a slot is free and leave when they end."""

from collections import deque
from collections.abc import Iterable

from thermoscope.engine.sequence import Sequence

PREFILL_CHUNK = 128


class Scheduler:
    """Waiting answers in order of arrival, and the running ones by slot."""

    def __init__(self, slots: int) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence | None] = [None] * slots

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue answers; they start at the next step with a free slot."""
        self.waiting.extend(sequences)

    def next(self) -> list[tuple[Sequence, int]]:
        """Answers of the next step, by slot, each with how many tokens it may run.

        Every answer that is being decoded runs one token. Of those still reading their prompt, the one
        that came first runs a chunk, so that a long prompt delays the others by a chunk and no more.
        """
        for slot, occupant in enumerate(self.running):
            if occupant is None and (sequence := self._next_in()) is not None:
                sequence.slot = slot
                self.running[slot] = sequence
        active = [sequence for sequence in self.running if sequence is not None]
        reading = [sequence for sequence in active if sequence.pending > 1]
        first = min(reading, key=lambda sequence: sequence.arrival, default=None)
        return [
            (sequence, PREFILL_CHUNK if sequence is first else 1)
            for sequence in active
            if sequence is first or sequence.pending == 1
        ]

    def _next_in(self) -> Sequence | None:
        """Who gets a slot that is free: the first that waits. One in the background waits for all others,
        and half the slots are never the background's, so that whoever comes next finds one.
        """
        for sequence in self.waiting:
            if not sequence.request.background:
                self.waiting.remove(sequence)
                return sequence
        behind = sum(each is not None and each.request.background for each in self.running)
        spare = behind < max(1, len(self.running) // 2)
        return self.waiting.popleft() if self.waiting and spare else None

    def remove(self, sequence: Sequence) -> None:
        """Take an answer out, whether it waits, runs, or has left already."""
        if sequence.slot is not None:
            self.running[sequence.slot] = None
            sequence.slot = None
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
