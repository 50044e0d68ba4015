"""One decoder for all families, told apart by their config.

Shapes in signatures use these words:

- **rows**: tokens in the call, of any number of sequences (see `models.cache` for spans and slots).
- **hidden**: the residual stream's width. Every layer reads it, and adds to it twice.
- **heads**, **kv**, **dim**: query heads, key-value heads (each serves heads // kv queries), their width.
- **context**: positions that a row can see.
- **out**: columns of a product; **vocab**: tokens.

A probe looks on (`models.probe`), interventions change what runs (`models.intervention`). Without them
nothing is computed for them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.models.attention import Rows, attend, rows_of
from thermoscope.models.cache import KVCache, Memory, Span
from thermoscope.models.intervention import Intervention, Interventions
from thermoscope.models.mlp import Experts, affine, mixture, mlp
from thermoscope.models.probe import Probe
from thermoscope.models.product import Product
from thermoscope.models.rotary import Rotary, Rotation, rotary_frequencies


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The weights of one layer: attention, then an MLP or a mixture of experts.

    A norm stands before each of the two, or behind it (`…_post_norm`, before the sum), or both.
    `q_norm`, `k_norm` are as long as one head, or as all heads together.
    """

    attention_norm: Float[Tensor, "hidden"] | None = None
    attention_norm_bias: Float[Tensor, "hidden"] | None = None
    qkv: Product
    qkv_bias: Float[Tensor, "out"] | None = None
    q_norm: Float[Tensor, "dim"] | None = None
    k_norm: Float[Tensor, "dim"] | None = None
    output: Product
    output_bias: Float[Tensor, "hidden"] | None = None
    attention_post_norm: Float[Tensor, "hidden"] | None = None
    mlp_norm: Float[Tensor, "hidden"] | None = None
    mlp_norm_bias: Float[Tensor, "hidden"] | None = None
    gate_up: Product | None = None
    gate_up_bias: Float[Tensor, "out"] | None = None
    down: Product | None = None
    down_bias: Float[Tensor, "hidden"] | None = None
    experts: Experts | None = None
    mlp_post_norm: Float[Tensor, "hidden"] | None = None


class Plan(NamedTuple):
    """What all layers of one forward call share: where rows stand, and how they rotate."""

    rows: Rows
    rotation: Rotation | None
    window_rotation: Rotation | None
    changes: Interventions | None


class Decoder:
    """A causal language model: token ids to residual stream to logits.

    - `embedding`: [vocab, hidden], in any float type. `head`: hidden -> vocab.
    - `positions`: [context, hidden], added to the embedding where positions are learned.
    - `rope_factors`: [dim / 2], divides the rotary frequencies (a GGUF file's form of llama3 and longrope).
    - `shows`: what its probes see. `scale`: what attention's scores are multiplied with. `rotary`,
      `window_rotary`: the angles of full and of windowed layers.
    """

    cache_type = torch.float32  # what its keys and values are kept in
    shows = ("residual", "q", "k", "v", "attention", "head_out", "attention_out", "mlp_out")

    def __init__(
        self,
        config: ModelConfig,
        *,
        embedding: Float[Tensor, "vocab hidden"],
        layers: Sequence[Layer],
        final_norm: Float[Tensor, "hidden"],
        final_norm_bias: Float[Tensor, "hidden"] | None = None,
        head: Product,
        positions: Float[Tensor, "context hidden"] | None = None,
        rope_factors: Float[Tensor, "half"] | None = None,
    ) -> None:
        self.config = config
        self.embedding = embedding
        self.layers = tuple(layers)
        self.final_norm = final_norm
        self.final_norm_bias = final_norm_bias
        self.head = head
        self.positions = positions
        frequencies = rotary_frequencies(config)
        if rope_factors is not None:
            frequencies = frequencies / rope_factors
        self.rotary = Rotary(frequencies, config.rope_scaling.magnitude if config.rope_scaling else 1.0)
        self.window_rotary = Rotary(rotary_frequencies(config, windowed=True))
        self.scale = config.attention_scale or 1 / math.sqrt(config.head_dim)

    def forward(
        self,
        tokens: Sequence[int],
        spans: Sequence[Span],
        cache: KVCache,
        probe: Probe | None = None,
        interventions: Mapping[int, Sequence[Intervention]] | None = None,
    ) -> Float[Tensor, "rows hidden"]:
        """Run rows through all layers, reading and extending the cache.

        The result is the residual stream before the final norm. `interventions` are those on each slot's
        sequence. Probes see, for each layer: `residual` [rows, hidden] as the layer finds it; `q` [rows,
        heads, dim], `k`, `v` [rows, kv, dim] after rotation; `attention` [slots, kv, heads // kv, count,
        length], once for each group of spans; `head_out` [rows, heads, dim], the values that each head
        mixed; `attention_out` and `mlp_out` [rows, hidden], what each added; and after the last layer,
        `residual` once more.
        """
        plan = self.plan(spans, cache, interventions)
        x = self.embed(torch.tensor(tokens), plan)
        for index, layer in enumerate(self.layers):
            x = self.block(index, layer, x, plan, cache, probe)
        if plan.changes:
            x = plan.changes.stream(len(self.layers), x)
        if probe:
            probe("residual", len(self.layers), x)
        cache.extend(spans)
        return x

    def onward(
        self, first: int, x: Float[Tensor, "rows hidden"], spans: Sequence[Span], cache: KVCache
    ) -> Float[Tensor, "rows hidden"]:
        """The result of `forward` from the stream that layer `first` finds; lower layers are not run."""
        plan = self.plan(spans, cache)
        for index in range(first, len(self.layers)):
            x = self.block(index, self.layers[index], x, plan, cache)
        return x

    def embed(self, tokens: Int[Tensor, "rows"], plan: Plan) -> Float[Tensor, "rows hidden"]:
        """The residual stream that the first layer finds."""
        x = F.embedding(tokens, self.embedding).float() * self.config.embedding_scale
        if self.positions is not None:
            x = x + F.embedding(plan.rows.positions, self.positions).float()
        return x

    def block(
        self, index: int, layer: Layer, x: Tensor, plan: Plan, cache: Memory, probe: Probe | None = None
    ) -> Float[Tensor, "rows hidden"]:
        """One layer: what it finds, plus what its attention and its MLP add."""
        if plan.changes:
            x = plan.changes.stream(index, x)
        if probe:
            probe("residual", index, x)
        attended = self._attend(index, layer, x, plan, cache, probe)
        attended = self._norm(attended, layer.attention_post_norm)
        x = x + attended
        widened = self._norm(self._mlp(layer, x), layer.mlp_post_norm)
        if probe:
            probe("attention_out", index, attended)
            probe("mlp_out", index, widened)
        return x + widened

    def logits(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Unembed: final norm, then the output projection."""
        return self.head(self.normed(x))

    def normed(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """The stream after the final norm: what the head reads, and transformers' `last_hidden_state`."""
        return self._norm(x, self.final_norm, self.final_norm_bias)

    def _attend(
        self, index: int, layer: Layer, x: Tensor, plan: Plan, cache: Memory, probe: Probe | None
    ) -> Float[Tensor, "rows hidden"]:
        config = self.config
        windowed = bool(config.windowed) and config.windowed[index]
        seen = self._norm(x, layer.attention_norm, layer.attention_norm_bias)
        fused = affine(layer.qkv, seen, layer.qkv_bias).view(len(x), -1, config.head_dim)
        values = fused[:, config.heads + config.kv_heads :]
        rotated = fused[:, : config.heads + config.kv_heads]
        if layer.q_norm is not None and layer.k_norm is not None:
            q, k = rotated[:, : config.heads], rotated[:, config.heads :]
            rotated = torch.cat((self._norm_heads(q, layer.q_norm), self._norm_heads(k, layer.k_norm)), dim=1)
        rotation = plan.window_rotation if windowed else plan.rotation
        if rotation is not None:
            rotated = rotation(rotated)
        queries, keys = rotated[:, : config.heads], rotated[:, config.heads :]
        hidden = plan.changes.hidden(index) if plan.changes else None
        attended = attend(
            index, queries, keys, values, plan.rows, cache, probe,
            scale=self.scale, windowed=windowed, hidden=hidden,
        )  # fmt: skip
        return affine(layer.output, attended, layer.output_bias)

    def _mlp(self, layer: Layer, x: Tensor) -> Float[Tensor, "rows hidden"]:
        seen = self._norm(x, layer.mlp_norm, layer.mlp_norm_bias)
        if layer.experts is not None:
            return mixture(self.config, layer.experts, seen)
        assert layer.gate_up is not None
        assert layer.down is not None
        return mlp(self.config, layer.gate_up, layer.down, seen, layer.gate_up_bias, layer.down_bias)

    def _norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
        if weight is None:
            return x
        if self.config.norm == "layer":
            return F.layer_norm(x, weight.shape, weight, bias, self.config.norm_eps)
        return F.rms_norm(x, weight.shape, weight, self.config.norm_eps)

    def _norm_heads(self, x: Float[Tensor, "rows heads dim"], weight: Tensor) -> Tensor:
        """Each head by itself, or all as one, as the weight is long."""
        return self._norm(x.reshape(len(x), -1, len(weight)), weight).view(x.shape)

    def plan(
        self,
        spans: Sequence[Span],
        cache: Memory,
        interventions: Mapping[int, Sequence[Intervention]] | None = None,
    ) -> Plan:
        """What the layers of a call share."""
        rows = rows_of(spans, cache, self.config.window)
        rotation = None if self.config.learned_positions else self.rotary.at(rows.positions)
        window_rotation = rotation
        if self.config.window_rope_theta is not None:
            window_rotation = self.window_rotary.at(rows.positions)
        changes = Interventions(interventions, rows.slots, rows.positions) if interventions else None
        return Plan(rows, rotation, window_rotation, changes)
