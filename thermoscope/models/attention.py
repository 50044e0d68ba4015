"""Attention over the cache: the one place where a row sees others."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thermoscope.models.cache import KVCache, Places, Span
from thermoscope.models.groups import Group, groups_of

Probe = Callable[[str, int, Tensor], None]


class Rows(NamedTuple):
    """Where the rows of one forward call stand: in their sequences, in the cache, and beside each other."""

    positions: Int[Tensor, "rows"]
    places: Places
    groups: list[Group]


def rows_of(spans: Sequence[Span], cache: KVCache, window: int | None) -> Rows:
    """Lay a call's rows out, the spans' tokens one after the other."""
    cache.check(spans)
    counts = torch.tensor([span.count for span in spans])
    slots = torch.tensor([span.slot for span in spans]).repeat_interleave(counts)
    positions = torch.cat([torch.arange(span.start, span.start + span.count) for span in spans])
    return Rows(positions, cache.places(slots, positions), groups_of(spans, window))


def read(
    layer: int,
    queries: Float[Tensor, "rows heads dim"],
    rows: Rows,
    cache: KVCache,
    probe: Probe | None,
    *,
    scale: float,
    windowed: bool,
    softcap: float | None = None,
) -> Float[Tensor, "rows heads*dim"]:
    """Let each row attend to its sequence in the cache, which holds the rows' own keys and values already.

    `softcap` c bounds the scores by c · tanh(score / c). The probe sees `attention` once for each group.
    """
    parts = []
    for group in rows.groups:
        mask = group.window_mask if windowed else group.mask
        mixed, weights = _group(layer, queries[group.rows], group, mask, cache, scale, softcap)
        if probe:
            probe("attention", layer, weights)
        parts.append(mixed)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _group(
    layer: int,
    queries: Float[Tensor, "group heads dim"],
    group: Group,
    mask: Tensor | None,
    cache: KVCache,
    scale: float,
    softcap: float | None,
) -> tuple[Float[Tensor, "group heads*dim"], Float[Tensor, "slots kv shared count length"]]:
    """softmax(scale · q Kᵀ + mask) V and its weights: two batched products over slots and KV heads."""
    slots, kv, dim = group.slots.stop - group.slots.start, cache.kv_heads, queries.shape[-1]
    heads = slice(group.slots.start * kv, group.slots.stop * kv)
    keys = cache.keys[layer, heads, : group.length].float()
    values = cache.values[layer, heads, : group.length].float()
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
