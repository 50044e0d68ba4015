"""The KV cache: keys and values of every token so far, in fixed memory.

Words used here and in the decoder:

- **slot**: the place of one sequence in the cache; a slot holds up to `context` positions.
- **position**: a token's index in its sequence, from 0.
- **span**: tokens that enter together for one slot: a chunk of a prompt, or one decoded token.
- **row**: one token in a forward call. Rows of a span stand together, spans in the order given.
"""

import math
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig

Places = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Span:
    """`count` tokens that enter slot `slot` at positions `start`, `start` + 1, …"""

    slot: int
    start: int
    count: int


class Memory(Protocol):
    """Where attention keeps keys and values, and reads them again."""

    kv_heads: int

    def check(self, spans: Iterable[Span]) -> None:
        """Refuse tokens that there is no place for."""

    def places(self, slots: Int[Tensor, "rows"], positions: Int[Tensor, "rows"]) -> Places:
        """Where rows go, the same in every layer."""

    def write(self, layer: int, places: Places, keys: Tensor, values: Tensor) -> None:
        """Put each row's keys and values in its place."""

    def read(self, layer: int, slots: slice, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of neighbouring slots, [slots · kv, length, dim] each."""


class KVCache:
    """Keys and values for every layer, slot and position, and how much of each slot is filled.

    The memory is asked for once and touched as positions fill. Rolling back is setting a length: what
    lies behind it is overwritten before anything needs it. Where a neighbour is longer it is read all the
    same, and hidden; so it must be numbers.

    - `keys`, `values`: [layers, slots · kv_heads, context, head_dim], of the type that the decoder keeps them
      in, two views of one tensor.
      A slot's heads stand together, so neighbouring slots are one view and no attention copies its keys.
    """

    def __init__(
        self, config: ModelConfig, *, slots: int, context: int, dtype: torch.dtype = torch.float32
    ) -> None:
        self.slots = slots
        self.context = context
        self.kv_heads = config.kv_heads
        self.lengths = [0] * slots
        shape = (config.layers, 2, slots * config.kv_heads, context, config.head_dim)
        self._memory = _zeros(shape, dtype)
        self.keys: Float[Tensor, "layers slots*kv context dim"] = self._memory[:, 0]
        self.values: Float[Tensor, "layers slots*kv context dim"] = self._memory[:, 1]
        self._which = torch.arange(2)[:, None]
        self._head = torch.arange(config.kv_heads)

    def check(self, spans: Iterable[Span]) -> None:
        """Refuse, with a `ValueError`, tokens that stand where the cache has no place."""
        for span in spans:
            if not 0 <= span.slot < self.slots:
                raise ValueError(f"slot: got {span.slot}, expected 0 to {self.slots - 1}.")
            if span.count < 1 or span.start < 0 or span.start + span.count > self.context:
                raise ValueError(
                    f"slot {span.slot}: got positions {span.start} to {span.start + span.count - 1}, "
                    f"expected them within the cache's {self.context}."
                )

    def places(self, slots: Int[Tensor, "rows"], positions: Int[Tensor, "rows"]) -> Places:
        """Where rows go, the same in every layer."""
        head = (slots * self.kv_heads)[:, None, None] + self._head
        return self._which, head, positions[:, None, None]

    def write(
        self,
        layer: int,
        places: Places,
        keys: Float[Tensor, "rows kv dim"],
        values: Float[Tensor, "rows kv dim"],
    ) -> None:
        """Put each row's keys and values in its place."""
        self._memory[layer][places] = torch.stack((keys, values), dim=1).to(self._memory.dtype)

    def read(self, layer: int, slots: slice, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of neighbouring slots, [slots · kv, length, dim] each, as views."""
        heads = slice(slots.start * self.kv_heads, slots.stop * self.kv_heads)
        return self.keys[layer, heads, :length], self.values[layer, heads, :length]

    def copy(self, source: int, target: int, length: int) -> None:
        """Fill a slot's first positions with those of another."""
        here, there = (slice(slot * self.kv_heads, (slot + 1) * self.kv_heads) for slot in (source, target))
        self._memory[:, :, there, :length] = self._memory[:, :, here, :length]
        self.lengths[target] = length

    def extend(self, spans: Iterable[Span]) -> None:
        """Count the spans' tokens as filled, once a forward call has written them."""
        for span in spans:
            self.lengths[span.slot] = span.start + span.count

    def clear(self, slot: int, first: int) -> None:
        """Make zeros of what stands from position `first` on."""
        heads = slice(slot * self.kv_heads, (slot + 1) * self.kv_heads)
        self._memory[:, :, heads, first : self.lengths[slot]] = 0

    def truncate(self, slot: int, length: int) -> None:
        """Forget what stands at `length` and after: rollback, and with 0, freeing the slot."""
        if not 0 <= length <= self.lengths[slot]:
            raise ValueError(f"slot {slot}: got length {length}, expected 0 to {self.lengths[slot]}.")
        self.lengths[slot] = length


def _zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros whose pages take memory only once written; they must be zeros, for 0 · NaN is NaN.

    Huge pages would make one token's keys take 2 MiB in every layer and head.
    """
    pages = mmap.mmap(-1, dtype.itemsize * math.prod(shape))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
