"""Which rows of a forward call attend together, and what each of them may look at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from thermoscope.models.cache import Span


@dataclass(frozen=True, slots=True)
class Group:
    """Spans of equal length in neighbouring slots: one batched attention.

    `mask` is [slots, 1, 1, count, length], 0 where a row may look and -inf where not; None sees all.
    """

    rows: slice
    slots: slice
    count: int
    length: int
    mask: Float[Tensor, "slots 1 1 count length"] | None
    window_mask: Float[Tensor, "slots 1 1 count length"] | None


def groups_of(spans: Sequence[Span], window: int | None) -> list[Group]:
    """Put neighbours of equal length together; rows stand as the spans give them."""
    groups, row, first = [], 0, 0
    while first < len(spans):
        last = first + 1
        while last < len(spans) and (
            spans[last].slot == spans[last - 1].slot + 1 and spans[last].count == spans[first].count
        ):
            last += 1
        members, count = spans[first:last], spans[first].count
        length = max(span.start + span.count for span in members)
        visible = _visible(members, count, length)
        mask = None if bool(visible.all()) else _as_mask(visible)
        window_mask = mask
        if window is not None and length > window:
            window_mask = _as_mask(visible & _visible(members, count, length, window))
        rows = slice(row, row + len(members) * count)
        slots = slice(members[0].slot, members[-1].slot + 1)
        groups.append(Group(rows, slots, count, length, mask, window_mask))
        row, first = rows.stop, last
    return groups


def _visible(
    spans: Sequence[Span], count: int, length: int, window: int | None = None
) -> Bool[Tensor, "slots count length"]:
    """Which positions each row may look at: its own and those before, no further back than the window."""
    starts = torch.tensor([span.start for span in spans])
    row = starts[:, None, None] + torch.arange(count)[:, None]
    column = torch.arange(length)
    seen = column <= row
    return seen if window is None else seen & (column > row - window)


def _as_mask(visible: Bool[Tensor, "slots count length"]) -> Float[Tensor, "slots 1 1 count length"]:
    mask = torch.zeros(visible.shape).masked_fill_(~visible, -math.inf)
    return mask[:, None, None]
