"""Attention over the cache: the one place where a row sees others."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thermoscope.models.cache import Memory, Places, Span
from thermoscope.models.groups import Group, groups_of
from thermoscope.models.probe import Probe


class Rows(NamedTuple):
    """Where the rows of one forward call stand: in their sequences, in the cache, and beside each other."""

    slots: Int[Tensor, "rows"]
    positions: Int[Tensor, "rows"]
    places: Places
    groups: list[Group]


def rows_of(spans: Sequence[Span], cache: Memory, window: int | None) -> Rows:
    """Lay a call's rows out, the spans' tokens one after the other."""
    cache.check(spans)
    counts = torch.tensor([span.count for span in spans])
    slots = torch.tensor([span.slot for span in spans]).repeat_interleave(counts)
    positions = torch.cat([torch.arange(span.start, span.start + span.count) for span in spans])
    return Rows(slots, positions, cache.places(slots, positions), groups_of(spans, window))


def attend(
    layer: int,
    queries: Float[Tensor, "rows heads dim"],
    keys: Float[Tensor, "rows kv dim"],
    values: Float[Tensor, "rows kv dim"],
    rows: Rows,
    cache: Memory,
    probe: Probe | None,
    *,
    scale: float,
    windowed: bool,
    softcap: float | None = None,
    hidden: Bool[Tensor, "rows length"] | None = None,
) -> Float[Tensor, "rows heads*dim"]:
    """Put the rows' keys and values into the cache, and let each row attend to its sequence.

    `softcap` c bounds the scores by c · tanh(score / c). `hidden`: positions that a row must not see, beside
    those that the mask forbids. What the probe sees is told at `Decoder.forward`.
    """
    if probe:
        probe("q", layer, queries)
        probe("k", layer, keys)
        probe("v", layer, values)
    cache.write(layer, rows.places, keys, values)
    parts = []
    for group in rows.groups:
        mask = group.window_mask if windowed else group.mask
        if hidden is not None:
            mask = _without(mask, hidden[group.rows, : group.length], group)
        mixed, weights = _group(layer, queries[group.rows], group, mask, cache, scale, softcap)
        if probe:
            probe("attention", layer, weights)
        parts.append(mixed)
    mixed = parts[0] if len(parts) == 1 else torch.cat(parts)
    if probe:
        probe("head_out", layer, mixed.view(queries.shape))
    return mixed


def _without(
    mask: Tensor | None, hidden: Bool[Tensor, "group length"], group: Group
) -> Float[Tensor, "slots 1 1 count length"]:
    """The mask, with what is hidden masked, too."""
    hides = hidden.view(-1, 1, 1, group.count, group.length)
    seen = torch.zeros(hides.shape) if mask is None else mask
    return seen.masked_fill(hides, -math.inf)


def _group(
    layer: int,
    queries: Float[Tensor, "group heads dim"],
    group: Group,
    mask: Tensor | None,
    cache: Memory,
    scale: float,
    softcap: float | None,
) -> tuple[Float[Tensor, "group heads*dim"], Float[Tensor, "slots kv shared count length"]]:
    """softmax(scale · q Kᵀ + mask) V and its weights: two batched products over slots and KV heads."""
    slots, kv, dim = group.slots.stop - group.slots.start, cache.kv_heads, queries.shape[-1]
    keys, values = (each.to(queries.dtype) for each in cache.read(layer, group.slots, group.length))
    q = queries.view(slots, group.count, kv, -1, dim)
    q = q.permute(0, 2, 3, 1, 4).reshape(slots * kv, -1, dim)
    scores = torch.baddbmm(q.new_empty(1), q, keys.mT, beta=0, alpha=scale)
    scores = scores.view(slots, kv, -1, group.count, group.length)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is not None:
        scores += mask
    weights = torch.softmax(scores, dim=-1)
    mixed = torch.bmm(weights.view(slots * kv, -1, group.length), values)
    mixed = mixed.view(slots, kv, -1, group.count, dim).permute(0, 3, 1, 2, 4)
    return mixed.reshape(slots * group.count, -1), weights
