"""Who runs in the next step: answers join when a slot is free and leave when they end."""

import itertools
import math
from collections import Counter, deque
from collections.abc import Hashable, Iterable

from thermoscope.catalogue.config import ModelConfig
from thermoscope.engine.prefixes import Prefixes
from thermoscope.engine.sequence import Sequence

PREFILL_CHUNK = 128  # tokens of prompts in a step at most
BESIDE = 12  # the same for each prompt that is being read, while others speak and wait for the step
LEAST = 4  # the same however far into its prompt a chunk stands
ATTENTION = (
    3.6  # what an operation of attention takes in operations of a product (docs/decisions/many-clients.md)
)


class Scheduler:
    """Waiting answers in order of arrival, and the running ones by slot.

    `reach`: tokens of context whose attention takes as long as everything else that a token needs. `whole`:
    always read prompts in whole chunks, for a decoder whose rows' numbers depend on how many are in a call.
    """

    def __init__(self, prefixes: Prefixes, *, reach: float = math.inf, whole: bool = False) -> None:
        self.prefixes = prefixes
        self.reach = reach
        self.whole = whole
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence | None] = [None] * prefixes.slots
        self._turns: dict[Hashable, int] = {}  # when each client got a slot last, of those who run or wait
        self._clock = itertools.count()

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue answers; they start at the next step with a free slot."""
        self.waiting.extend(sequences)

    def next(self) -> list[tuple[Sequence, int]]:
        """Answers of the next step, by slot, each with how many tokens it may run.

        Every answer that is being decoded runs one token, beside a chunk of a prompt that is still read.
        """
        while free := [slot for slot, occupant in enumerate(self.running) if occupant is None]:
            sequence = self._next_in()
            if sequence is None:
                break
            sequence.slot = self.prefixes.place(sequence, free)
            self.running[sequence.slot] = sequence
            self.prefixes.enter(sequence)
        active = [sequence for sequence in self.running if sequence is not None]
        rows = self._chunks([sequence for sequence in active if sequence.pending > 1], len(active))
        return [(each, rows.get(each, 1)) for each in active if each in rows or each.pending == 1]

    def _chunks(self, reading: list[Sequence], active: int) -> dict[Sequence, int]:
        """Whose prompts are read in this step, and how much of them.

        The one that came first reads; but one that has not half as much left passes it, and leaves it a part.
        """
        if not reading:
            return {}
        first = min(reading, key=lambda sequence: sequence.arrival)
        short = min(reading, key=lambda sequence: (sequence.pending, sequence.arrival))
        alone = active == len(reading)
        self.prefixes.fill(first)
        if self.whole:
            return {first: PREFILL_CHUNK}
        if 2 * short.pending > first.pending:
            return {first: self._rows(first, PREFILL_CHUNK if alone else BESIDE * len(reading))}
        self.prefixes.fill(short)
        rest = PREFILL_CHUNK if alone else BESIDE * len(reading)
        return {first: self._rows(first, BESIDE), short: self._rows(short, rest - BESIDE)}

    def _rows(self, sequence: Sequence, budget: int) -> int:
        """Tokens of a prompt that cost what so many at its beginning do."""
        if budget >= PREFILL_CHUNK:
            return PREFILL_CHUNK
        return max(LEAST, int(budget / (1 + sequence.filled / self.reach)))

    def _next_in(self) -> Sequence | None:
        """Who gets a slot that is free: of the clients who wait the one that has the fewest, of those the one
        that got its last one longest ago, and of its answers the first.

        One in the background waits for all others, and half the slots are never the background's, so that
        whoever comes next finds one.
        """
        if not self.waiting:
            return None
        running = [each for each in self.running if each is not None]
        has = Counter(each.request.client for each in running)
        behind = sum(each.request.background for each in running)

        def turn(sequence: Sequence) -> tuple[int, int]:
            client = sequence.request.client
            return has[client], self._turns.get(client, -1)

        front = [each for each in self.waiting if not each.request.background]
        if not front and behind < max(1, len(self.running) // 2):
            front = list(self.waiting)
        if not front:
            return None
        chosen = min(front, key=turn)  # of equals the first
        self.waiting.remove(chosen)
        self._turns[chosen.request.client] = next(self._clock)
        here = {each.request.client for each in (*running, *self.waiting, chosen)}
        self._turns = {client: turn for client, turn in self._turns.items() if client in here}
        return chosen

    def remove(self, sequence: Sequence) -> None:
        """Take an answer out, whether it waits, runs, or has left already."""
        if sequence.slot is not None:
            self.running[sequence.slot] = None
            sequence.slot = None
        elif sequence in self.waiting:
            self.waiting.remove(sequence)


def reach(config: ModelConfig) -> float:
    """Tokens of context whose attention takes a row as long as its products do.

    Products have an operation for each weight, attention two for each number of a query and token seen, and
    one of attention's, which are in floats, takes `ATTENTION` times as long.
    """
    width = config.heads * config.head_dim
    experts = config.experts_per_token * config.expert_ffn if config.experts else config.ffn
    weights = config.hidden * (2 * width + 2 * config.kv_heads * config.head_dim + 3 * experts)
    return weights / (2 * width * ATTENTION)
