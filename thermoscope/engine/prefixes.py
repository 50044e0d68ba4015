"""Keys and values that are there already: what each slot holds, and where a prompt finds most of itself."""

from collections.abc import Sequence as Listed
from typing import NamedTuple

from thermoscope.engine.sequence import Sequence
from thermoscope.models.cache import KVCache
from thermoscope.models.intervention import Intervention


class Held(NamedTuple):
    """Whose keys and values stand in a slot: of these tokens as many as the cache says are filled."""

    tokens: Listed[int]  # the list that the answer goes on to write
    steer: tuple[Intervention, ...]
    arrival: int


class Prefixes:
    """The beginnings that slots hold, of answers under way and of those that have ended.

    A slot that is free keeps what its last answer left, until another needs it. What is taken from a slot has
    the bits that computing it anew would give, where the arithmetic does not depend on a row's company.
    """

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self._held: list[Held | None] = [None] * cache.slots

    @property
    def slots(self) -> int:
        """How many there are."""
        return len(self._held)

    def place(self, sequence: Sequence, free: Listed[int]) -> int:
        """Which of the free slots a new answer takes: one whose content its prompt continues, of those the
        longest; else the one whose content came longest ago, which the others outlive.
        """
        shared = {slot: self._shared(slot, sequence) for slot in free}
        whole = [slot for slot in free if shared[slot] == self._cache.lengths[slot]]
        if whole:
            return max(whole, key=lambda slot: shared[slot])
        return min(free, key=lambda slot: held.arrival if (held := self._held[slot]) else -1)

    def enter(self, sequence: Sequence) -> None:
        """Have a new answer begin with what its slot holds of its prompt, and no more."""
        slot = _slot(sequence)
        shared = self._shared(slot, sequence)
        if (held := self._held[slot]) is not None and held.steer:
            self._cache.clear(slot, shared)  # a vector may have led out of the numbers, and 0 · NaN is NaN
        self._cache.truncate(slot, shared)
        self._held[slot] = Held(sequence.tokens, sequence.request.steer, sequence.arrival)
        sequence.reuse(shared)
        self.fill(sequence)

    def fill(self, sequence: Sequence) -> None:
        """Copy from another slot what that holds of the prompt, where it is more than is there already."""
        slot = _slot(sequence)
        others = [each for each in range(self.slots) if each != slot]
        source = max(others, key=lambda each: self._shared(each, sequence), default=slot)
        shared = self._shared(source, sequence)
        if shared > sequence.filled:
            self._cache.copy(source, slot, shared)
            sequence.reuse(shared)

    def _shared(self, slot: int, sequence: Sequence) -> int:
        """Tokens of the prompt that the slot holds from the first on; the last one must speak, and is run."""
        held, request = self._held[slot], sequence.request
        if held is None or request.fresh:
            return 0
        if held.steer != request.steer:  # it changes keys and values; only itself is the same
            return 0
        most = min(self._cache.lengths[slot], len(request.prompt) - 1)
        return _common(held.tokens, request.prompt, most)


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None  # the scheduler gave it one
    return sequence.slot


def _common(one: Listed[int], other: Listed[int], most: int) -> int:
    """Length of the common beginning, `most` at most, by halving: slices are compared at C's speed."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        if tuple(one[least:middle]) == tuple(other[least:middle]):
            least = middle
        else:
            most = middle - 1
    return least
