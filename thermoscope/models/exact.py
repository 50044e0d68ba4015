"""The network in plain floats on its own weights, so that autograd can follow it.

Each layer is made when it is needed, from exactly the numbers that the model multiplies with, and let go
afterwards: a model of any precision takes one layer's memory more. Its results differ from the engine's by
what the engine rounds.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import UnsupportedModel
from thermoscope.models.adapter import Adapter
from thermoscope.models.cache import Places, Span
from thermoscope.models.decoder import Decoder, Layer, Plan
from thermoscope.models.fused import Fused
from thermoscope.models.mlp import Experts
from thermoscope.models.product import Dense, Product


class Sheet:
    """The keys and values of whole sequences in the layer that runs: a cache that nothing is written into."""

    def __init__(self, config: ModelConfig, lengths: Sequence[int]) -> None:
        self.kv_heads = config.kv_heads
        self.spans = [Span(slot, 0, length) for slot, length in enumerate(lengths)]
        self._first = [sum(lengths[:slot]) for slot in range(len(lengths))]
        self._held: tuple[Tensor, Tensor] | None = None

    def check(self, spans: Iterable[Span]) -> None:
        """Everything fits."""

    def places(self, slots: Int[Tensor, "rows"], positions: Int[Tensor, "rows"]) -> Places:
        """Rows stay where they are."""
        return slots, positions, positions

    def write(self, _layer: int, _places: Places, keys: Tensor, values: Tensor) -> None:
        """Hold a layer's rows until the next one's."""
        self._held = keys, values

    def read(self, _layer: int, slots: slice, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of neighbouring sequences of equal length, [slots · kv, length, dim] each."""
        assert self._held is not None
        count = slots.stop - slots.start
        rows = slice(self._first[slots.start], self._first[slots.start] + count * length)
        keys, values = (
            each[rows].unflatten(0, (count, length)).transpose(1, 2).flatten(0, 1)  # type: ignore[no-untyped-call]
            for each in self._held
        )
        return keys, values


class Exact:
    """A model's network in `dtype`, for whole sequences whose rows stand one after the other.

    **Errors:** `UnsupportedModel` for a model that runs through transformers.
    """

    def __init__(self, decoder: Decoder | Fused | Adapter, dtype: torch.dtype = torch.float32) -> None:
        if isinstance(decoder, Adapter):
            raise UnsupportedModel(
                f"gradients: got a {decoder.config.family}, which runs through transformers; "
                "expected a family that this decoder knows."
            )
        self.config, self.dtype = decoder.config, dtype
        plain = decoder.plain if isinstance(decoder, Fused) else decoder
        self._layers = plain.layers
        self._network = copy.copy(plain)
        self._network.final_norm = plain.final_norm.to(dtype)
        if plain.final_norm_bias is not None:
            self._network.final_norm_bias = plain.final_norm_bias.to(dtype)
        self._network.head = _wide(plain.head, dtype)

    def layout(self, lengths: Sequence[int]) -> tuple[Plan, Sheet]:
        """Where the rows of sequences of these lengths stand, for the calls below."""
        sheet = Sheet(self.config, lengths)
        plan = self._network.plan(sheet.spans, sheet)
        rotations = [
            each and each._replace(cos=each.cos.to(self.dtype), sin=each.sin.to(self.dtype))
            for each in (plan.rotation, plan.window_rotation)
        ]
        return plan._replace(rotation=rotations[0], window_rotation=rotations[1]), sheet

    def embed(self, tokens: Sequence[int], plan: Plan) -> Float[Tensor, "rows hidden"]:
        """The residual stream that the first layer finds."""
        return self._network.embed(torch.tensor([*tokens]), plan).to(self.dtype)

    def block(self, index: int, x: Tensor, plan: Plan, sheet: Sheet) -> Float[Tensor, "rows hidden"]:
        """The stream after one layer, from the stream that it finds."""
        return self._network.block(index, self._layer(index), x, plan, sheet)

    def onward(
        self, first: int, x: Float[Tensor, "rows hidden"], lengths: Sequence[int]
    ) -> Float[Tensor, "rows hidden"]:
        """The stream before the final norm, from the one that layer `first` finds."""
        plan, sheet = self.layout(lengths)
        for index in range(first, self.config.layers):
            x = self.block(index, x, plan, sheet)
        return x

    def head(self, x: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows vocab"]:
        """Final norm, then the output projection: the logit lens, on the stream of any layer."""
        return self._network.logits(x)

    def _layer(self, index: int) -> Layer:
        layer = self._layers[index]
        found = {each.name: getattr(layer, each.name) for each in fields(layer)}
        return replace(layer, **{name: self._converted(part) for name, part in found.items()})

    def _converted(self, part: Product | Tensor | Experts | None) -> Any:
        if part is None:
            return None
        if isinstance(part, Tensor):
            return part.to(self.dtype)
        if isinstance(part, Experts):
            mlps = ((_wide(each, self.dtype) for each in matrices) for matrices in (part.gate_up, part.down))
            gate_up, down = map(tuple, mlps)
            return Experts(router=_wide(part.router, self.dtype), gate_up=gate_up, down=down)
        return _wide(part, self.dtype)


def _wide(product: Product, dtype: torch.dtype) -> Dense:
    return Dense(product.weight().to(dtype))
