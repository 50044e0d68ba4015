"""One decoder for the Llama-like families, told apart by their config.

Shapes in signatures use these words:

- **rows**: tokens in the call, of any number of sequences (see `models.cache` for spans and slots).
- **hidden**: the residual stream's width. Every layer reads it, and adds to it twice.
- **heads**, **kv**, **dim**: query heads, key-value heads (each serves heads // kv queries), their width.
- **context**: positions that a row can see.
- **out**: columns of a product; **vocab**: tokens.

A probe is called with the name of a quantity, its layer, and the tensor, at the moment it exists. With
no probe nothing is computed for it. The names are listed at `Decoder.forward`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig, RopeScaling
from thermoscope.models.cache import KVCache, Places, Span
from thermoscope.models.product import Product

Probe = Callable[[str, int, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The weights of one layer: attention, then a gated MLP, each behind an RMSNorm."""

    attention_norm: Float[Tensor, "hidden"]
    qkv: Product
    qkv_bias: Float[Tensor, "out"] | None = None
    q_norm: Float[Tensor, "dim"] | None = None
    k_norm: Float[Tensor, "dim"] | None = None
    output: Product
    output_bias: Float[Tensor, "hidden"] | None = None
    mlp_norm: Float[Tensor, "hidden"]
    gate_up: Product
    gate_up_bias: Float[Tensor, "out"] | None = None
    down: Product
    down_bias: Float[Tensor, "hidden"] | None = None


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


class Plan(NamedTuple):
    """What all layers of one forward call share: where rows go, what they see, how they rotate."""

    places: Places
    cos: Float[Tensor, "rows 1 dim"]
    sin: Float[Tensor, "rows 1 dim"]
    groups: list[Group]


class Decoder:
    """A causal language model: token ids to residual stream to logits.

    - `embedding`: [vocab, hidden], in any float type. `head`: hidden -> vocab.
    - `rope_factors`: [dim / 2], divides the rotary frequencies (a GGUF file's form of llama3 scaling).
    """

    cache_type = torch.float32  # what its keys and values are kept in

    def __init__(
        self,
        config: ModelConfig,
        *,
        embedding: Float[Tensor, "vocab hidden"],
        layers: Sequence[Layer],
        final_norm: Float[Tensor, "hidden"],
        head: Product,
        rope_factors: Float[Tensor, "half"] | None = None,
    ) -> None:
        self.config = config
        self.embedding = embedding
        self.layers = tuple(layers)
        self.final_norm = final_norm
        self.head = head
        self._frequencies = rotary_frequencies(config)
        if rope_factors is not None:
            self._frequencies = self._frequencies / rope_factors
        # rotate-half: x cos + roll(x) · [−sin, sin]
        self._sign = torch.ones(config.head_dim).index_fill_(0, torch.arange(config.head_dim // 2), -1.0)

    def forward(
        self,
        tokens: Int[Tensor, "rows"],
        spans: Sequence[Span],
        cache: KVCache,
        probe: Probe | None = None,
    ) -> Float[Tensor, "rows hidden"]:
        """Run rows through all layers, reading and extending the cache.

        The result is the residual stream before the final norm. Probes see, for each layer:
        `residual` [rows, hidden] as the layer finds it; `q` [rows, heads, dim], `k`, `v` [rows, kv, dim]
        after rotation; `attention` [slots, kv, heads // kv, count, length], once for each group of spans;
        `attention_out` and `mlp_out` [rows, hidden], what each added; and after the last layer, `residual`
        once more.
        """
        plan = self.plan(spans, cache)
        x = F.embedding(tokens, self.embedding).float()
        for index, layer in enumerate(self.layers):
            if probe:
                probe("residual", index, x)
            attended = self._attend(index, layer, x, plan, cache, probe)
            x = x + attended
            widened = self._mlp(layer, x)
            x = x + widened
            if probe:
                probe("attention_out", index, attended)
                probe("mlp_out", index, widened)
        if probe:
            probe("residual", len(self.layers), x)
        cache.extend(spans)
        return x

    def logits(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Unembed: final norm, then the output projection."""
        return self.head(self._norm(x, self.final_norm))

    def _attend(
        self, index: int, layer: Layer, x: Tensor, plan: Plan, cache: KVCache, probe: Probe | None
    ) -> Float[Tensor, "rows hidden"]:
        config = self.config
        fused = _affine(layer.qkv, self._norm(x, layer.attention_norm), layer.qkv_bias)
        fused = fused.view(len(x), -1, config.head_dim)
        values = fused[:, config.heads + config.kv_heads :]
        rotated = fused[:, : config.heads + config.kv_heads]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = rotated[:, : config.heads], rotated[:, config.heads :]
            rotated = torch.cat((self._norm(q, layer.q_norm), self._norm(k, layer.k_norm)), dim=1)
        rotated = torch.addcmul(rotated * plan.cos, rotated.roll(config.head_dim // 2, -1), plan.sin)
        queries, keys = rotated[:, : config.heads], rotated[:, config.heads :]
        if probe:
            probe("q", index, queries)
            probe("k", index, keys)
            probe("v", index, values)
        cache.write(index, plan.places, keys, values)
        return _affine(layer.output, self.read(index, queries, plan, cache, probe), layer.output_bias)

    def read(
        self, index: int, queries: Tensor, plan: Plan, cache: KVCache, probe: Probe | None
    ) -> Float[Tensor, "rows heads*dim"]:
        """What each row's queries find in the cache, which holds the rows' own keys and values already."""
        windowed = bool(self.config.windowed) and self.config.windowed[index]
        parts = [self._read(index, queries, group, windowed, cache, probe) for group in plan.groups]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _read(
        self, index: int, queries: Tensor, group: Group, windowed: bool, cache: KVCache, probe: Probe | None
    ) -> Float[Tensor, "rows heads*dim"]:
        """softmax(q Kᵀ / √dim + mask) V, as two batched products over slots and key-value heads."""
        config = self.config
        slots, kv = group.slots.stop - group.slots.start, config.kv_heads
        heads = slice(group.slots.start * kv, group.slots.stop * kv)
        keys = cache.keys[index, heads, : group.length].float()
        values = cache.values[index, heads, : group.length].float()
        q = queries[group.rows].view(slots, group.count, kv, -1, config.head_dim)
        q = q.permute(0, 2, 3, 1, 4).reshape(slots * kv, -1, config.head_dim)
        scores = torch.baddbmm(q.new_empty(1), q, keys.mT, beta=0, alpha=1 / math.sqrt(config.head_dim))
        scores = scores.view(slots, kv, -1, group.count, group.length)
        mask = group.window_mask if windowed else group.mask
        if mask is not None:
            scores += mask
        weights = torch.softmax(scores, dim=-1)
        if probe:
            probe("attention", index, weights)
        mixed = torch.bmm(weights.view(slots * kv, -1, group.length), values)
        mixed = mixed.view(slots, kv, -1, group.count, config.head_dim).permute(0, 3, 1, 2, 4)
        return mixed.reshape(slots * group.count, -1)

    def _mlp(self, layer: Layer, x: Tensor) -> Float[Tensor, "rows hidden"]:
        gate, up = _affine(layer.gate_up, self._norm(x, layer.mlp_norm), layer.gate_up_bias).chunk(2, dim=-1)
        return _affine(layer.down, F.silu(gate) * up, layer.down_bias)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.config.norm_eps)

    def rotation(self, positions: Int[Tensor, "rows"]) -> tuple[Float[Tensor, "rows half"], ...]:
        """Cosines and sines of each position's angles."""
        angles = positions[:, None].float() * self._frequencies
        return angles.cos(), angles.sin()

    def plan(self, spans: Sequence[Span], cache: KVCache) -> Plan:
        """What all layers share, for these spans."""
        cache.check(spans)
        counts = torch.tensor([span.count for span in spans])
        slots = torch.tensor([span.slot for span in spans]).repeat_interleave(counts)
        positions = torch.cat([torch.arange(span.start, span.start + span.count) for span in spans])
        cos, sin = (torch.cat((each, each), dim=-1)[:, None] for each in self.rotation(positions))
        return Plan(cache.places(slots, positions), cos, sin * self._sign, self._groups(spans))

    def _groups(self, spans: Sequence[Span]) -> list[Group]:
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
            if self.config.window is not None and length > self.config.window:
                window_mask = _as_mask(visible & _visible(members, count, length, self.config.window))
            rows = slice(row, row + len(members) * count)
            slots = slice(members[0].slot, members[-1].slot + 1)
            groups.append(Group(rows, slots, count, length, mask, window_mask))
            row, first = rows.stop, last
        return groups


def rotary_frequencies(config: ModelConfig) -> Float[Tensor, "half"]:
    """θ^(−2i/dim) for i < dim / 2, in radians a position, stretched as the config says.

    Source: Su et al. 2021, RoFormer, eq. 15; the llama3 stretch is that of Llama 3.1's release.
    """
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**steps
    match config.rope_scaling:
        case None:
            return frequencies
        case RopeScaling(kind="linear", factor=factor):
            return frequencies / factor
        case RopeScaling(factor=factor, low=low, high=high, original_context=context):
            turns = context * frequencies / (2 * math.pi)
            # 0 where a wave is longer than context/low, 1 where it is shorter than context/high
            keep = ((turns - low) / (high - low)).clamp(0, 1)
            return keep * frequencies + (1 - keep) * frequencies / factor


def _affine(product: Product, x: Tensor, bias: Tensor | None) -> Tensor:
    y = product(x)
    return y if bias is None else y + bias


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
