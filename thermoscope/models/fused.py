"""A decoder whose layers run in the native step: one call for all layers and rows (kernels/step.h).

It wraps the readable decoder, takes its weights by address, and gives what that gives, in an arithmetic of
its own, in which a row's numbers do not depend on the company that it is in.
"""

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.models.attention import Rows, attend, rows_of
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.decoder import Decoder, Layer
from thermoscope.models.intervention import Intervention, Interventions
from thermoscope.models.kernels import build, native
from thermoscope.models.panels import Panels
from thermoscope.models.probe import Probe

ACTIVATIONS = ("silu", "gelu_tanh")  # by their number in step.h
NORMS = ("attention_norm", "q_norm", "k_norm", "attention_post_norm", "mlp_norm", "mlp_post_norm")
PRODUCTS = ("qkv", "output", "gate_up", "down")
NOBODY = Probe(lambda *_: None, lambda *_: False)
IN_ATTENTION = ("q", "k", "v", "attention", "head_out")


class Fused:
    """The same model as `plain`; `Fused.takes` says which models can be."""

    cache_type = torch.float16
    shows = Decoder.shows

    def __init__(self, plain: Decoder) -> None:
        self.plain = plain
        self.config, self.layers = plain.config, plain.layers
        self.embedding, self.final_norm, self.head = plain.embedding, plain.final_norm, plain.head
        self.spent: ctypes.Array[ctypes.c_int64] | None = None  # nanoseconds by part, for who sets it
        self._library = build.loaded()
        assert isinstance(plain.head, Panels)
        self._head = plain.head.matrix()
        self._layers = (native.Layer * len(plain.layers))(*map(_layer, plain.layers))
        self._rotations: list[Tensor] = []
        config = self.config
        self._network = native.Network(
            layers=self._layers,
            hidden=config.hidden,
            heads=config.heads,
            kv_heads=config.kv_heads,
            dim=config.head_dim,
            ffn=config.ffn,
            rotary=config.rotary_dim or config.head_dim,
            norm_whole=config.qk_norm_whole,
            activation=ACTIVATIONS.index(config.activation),
            eps=config.norm_eps,
            scale=plain.scale,
            embedding=self.embedding.data_ptr(),
            plain=self.embedding.dtype == torch.float32,
            embedding_scale=config.embedding_scale,
        )
        for index, layer in enumerate(self._layers):
            layer.window = config.window if config.windowed and config.windowed[index] else 0

    @staticmethod
    def takes(plain: Decoder) -> bool:
        """Whether the native step has a path for every part of this decoder."""
        products = [getattr(layer, name) for layer in plain.layers for name in PRODUCTS]
        whole = all(isinstance(product, Panels) for product in (*products, plain.head))
        known = plain.embedding.dtype in (torch.float16, torch.float32) and plain.embedding.is_contiguous()
        return whole and known and Fused.knows(plain.config)

    @staticmethod
    def knows(config: ModelConfig) -> bool:
        """Whether the native step has a path for decoders of this shape, their products being `Panels`."""
        return (
            config.norm == "rms"
            and not config.experts
            and not config.learned_positions
            and config.gated
            and config.activation in ACTIVATIONS
            and bool(build.loaded().attends(config.head_dim))
        )

    def forward(
        self,
        tokens: Sequence[int],
        spans: Sequence[Span],
        cache: KVCache,
        probe: Probe | None = None,
        interventions: Mapping[int, Sequence[Intervention]] | None = None,
    ) -> Float[Tensor, "rows hidden"]:
        """What `Decoder.forward` does; probes see the same quantities, interventions change the same."""
        rows, _held = self._rows(len(tokens), spans, cache)
        if probe is None and not interventions:
            # The step looks them up: PyTorch would give the interpreter away, and wait for it again.
            numbers = self._checked(tokens)
            rows.tokens, _ = numbers.buffer_info()
            x = torch.empty(len(tokens), self.config.hidden)
            self._run(x, rows, cache, 0, len(self.layers), native.Taps())
        else:
            x = F.embedding(torch.tensor(tokens), self.embedding).float() * self.config.embedding_scale
            where = rows_of(spans, cache, self.config.window)
            changes = Interventions(interventions or {}, where.slots, where.positions)
            x = self._by_layer(x, rows, where, cache, probe or NOBODY, changes)
        cache.extend(spans)
        return x

    def onward(
        self, first: int, x: Float[Tensor, "rows hidden"], spans: Sequence[Span], cache: KVCache
    ) -> Float[Tensor, "rows hidden"]:
        """What `Decoder.onward` does."""
        rows, _held = self._rows(len(x), spans, cache)
        x = x.float().clone()  # the step adds to x in place
        self._run(x, rows, cache, first, len(self.layers), native.Taps())
        return x

    def logits(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Unembed: final norm, then the output projection."""
        x = x.contiguous()
        logits = x.new_empty(len(x), self.config.vocab)
        self._library.unembed(
            self._head,
            self.final_norm.data_ptr(),
            self.config.norm_eps,
            x.data_ptr(),
            len(x),
            logits.data_ptr(),
            self._library.threads,
        )
        return logits

    def normed(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows hidden"]:
        """What `Decoder.normed` gives."""
        return self.plain.normed(x)

    def _rows(self, count: int, spans: Sequence[Span], cache: KVCache) -> tuple[native.Rows, Any]:
        """Where rows stand, by address; and what must be kept for as long as the addresses are used."""
        cache.check(spans)
        # The step writes by address: what does not fit would land in another's place.
        if count != (places := sum(span.count for span in spans)):
            raise ValueError(f"tokens: got {count} tokens for spans of {places}, expected as many.")
        if cache.keys.dtype != self.cache_type:
            raise ValueError(f"cache: got {cache.keys.dtype}, expected {self.cache_type}.")
        slots = array("i", [span.slot for span in spans for _ in range(span.count)])
        positions = array("i", [span.start + i for span in spans for i in range(span.count)])
        self._turn(cache.context)
        return native.Rows(count, slots.buffer_info()[0], positions.buffer_info()[0]), (slots, positions)

    def _checked(self, tokens: Sequence[int]) -> "array[int]":
        """The tokens for the native step, which would read whatever stands where a number points to."""
        if min(tokens) < 0 or max(tokens) >= len(self.embedding):
            raise IndexError(
                f"tokens: got {min(tokens)} to {max(tokens)}, expected 0 to {len(self.embedding) - 1}."
            )
        return array("i", tokens)

    def _run(
        self, x: Tensor, rows: native.Rows, cache: KVCache, first: int, last: int, taps: native.Taps
    ) -> None:
        keys, values = cache.keys, cache.values
        held = native.Cache(keys.data_ptr(), values.data_ptr(), keys.stride(0), keys.stride(1))
        threads = self._library.threads
        self._library.forward(self._network, rows, held, x.data_ptr(), first, last, taps, threads, self.spent)

    def _by_layer(
        self, x: Tensor, rows: native.Rows, where: Rows, cache: KVCache, probe: Probe, changes: Interventions
    ) -> Float[Tensor, "rows hidden"]:
        """A layer at a time, changed as asked for, with what the probe wants kept apart."""
        config, count = self.config, len(x)
        for index in range(config.layers):
            x = changes.stream(index, x).contiguous()
            if probe.wants("residual", index):
                probe("residual", index, x.clone())  # the step adds to x in place
            hidden = changes.hidden(index)
            rows.hidden = None if hidden is None else hidden.data_ptr()
            taken: dict[str, Tensor] = {}
            if any(probe.wants(quantity, index) for quantity in IN_ATTENTION):
                taken["qkv"] = x.new_empty(count, config.heads + 2 * config.kv_heads, config.head_dim)
            for tap, quantity in (("attention", "attention_out"), ("mlp", "mlp_out")):
                if probe.wants(quantity, index):
                    taken[tap] = torch.empty_like(x)
            taps = native.Taps(**{tap: tensor.data_ptr() for tap, tensor in taken.items()})
            self._run(x, rows, cache, index, index + 1, taps)
            if "qkv" in taken:
                # The step keeps no weights, so the probe's are computed once more, from the same q, k and v.
                q, k, v = torch.split(taken["qkv"], [config.heads, config.kv_heads, config.kv_heads], dim=1)
                windowed = bool(config.windowed) and config.windowed[index]
                attend(
                    index, q, k, v, where, cache, probe,
                    scale=self.plain.scale, windowed=windowed, hidden=hidden,
                )  # fmt: skip
            for tap, quantity in (("attention", "attention_out"), ("mlp", "mlp_out")):
                if tap in taken:
                    probe(quantity, index, taken[tap])
        x = changes.stream(config.layers, x)
        probe("residual", config.layers, x)
        return x

    def _turn(self, context: int) -> None:
        """Have the rotations of every position ready, [context, cos and sin, turning / 2]."""
        if self._rotations and len(self._rotations[0]) >= context:
            return
        own, windowed = self.config.window_rope_theta is not None, self.config.windowed
        kinds = (self.plain.rotary, self.plain.window_rotary)[: 1 + own]
        made = [torch.stack(rotary.turns(torch.arange(context)), dim=1) for rotary in kinds]
        for index, layer in enumerate(self._layers):
            layer.rotation = made[own and windowed[index]].data_ptr()
        self._rotations = made


def _layer(layer: Layer) -> native.Layer:
    weights = {name: getattr(layer, name) for name in NORMS}
    return native.Layer(
        **{name: None if norm is None else norm.data_ptr() for name, norm in weights.items()},
        **{name: getattr(layer, name).matrix(getattr(layer, f"{name}_bias")) for name in PRODUCTS},
    )
