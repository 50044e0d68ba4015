"""Checkpoint + precision -> tensors -> decoder.

Neighbouring matrices that read the same input become one product: Q, K and V; gate and up. The tensors
are named by what they are, so that `models.packed` can keep them on disk and any start can build from it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.precision import NATIVE, Precision
from thermoscope.models.checkpoint import Blocks, Checkpoint
from thermoscope.models.decoder import Decoder, Layer
from thermoscope.models.fused import Fused
from thermoscope.models.mlp import Experts
from thermoscope.models.panels import Panels, quantise
from thermoscope.models.parts import shape_of
from thermoscope.models.product import Dense, Half, Int4, Int8, Product

KINDS: dict[str, Callable[..., Product]] = {kind.__name__: kind for kind in (Dense, Half, Int8, Int4, Panels)}
PRODUCTS = {"qkv": ("q", "k", "v"), "output": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
FINE = (".q", ".k", ".v", ".down")  # where 8 bits of the input are too few: docs/decisions/two-terms.md
MLP = ("gate_up", "down")
VECTORS = [f"{norm}{bias}" for norm in ("attention_norm", "mlp_norm") for bias in ("", "_bias")]
VECTORS += ["attention_post_norm", "mlp_post_norm", "q_norm", "k_norm"]


def pack(
    checkpoint: Checkpoint, precision: Precision, *, native: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the decoder at a precision, named for `build`: `layers.0.qkv:Int4.packed`.

    `native`: for the own kernel, which must have been built.
    """
    packer = _Packer(checkpoint, precision, native=native)
    config, exact = checkpoint.config, precision == "fp32"
    head = packer.head()
    if head is not None:
        yield from _named("head", head)
    for table in ("embedding", "positions", "head"):
        if checkpoint.has(table) and (table != "head" or head is None):
            yield table, checkpoint.read(table).to(torch.float32 if exact else torch.float16)
    for vector in ("final_norm", "final_norm_bias", "rope_factors"):
        if checkpoint.has(vector):
            yield vector, checkpoint.read(vector).float()
    for index in range(config.layers):
        here = f"layers.{index}."
        for vector in VECTORS:
            if checkpoint.has(here + vector):
                yield here + vector, checkpoint.read(here + vector).float()
        if checkpoint.has(here + "router"):
            yield f"{here}router:Dense.weight", checkpoint.read(here + "router").float()
        for name in PRODUCTS:
            yield from packer.tensors(here, name)
        for expert in range(config.experts):
            for name in MLP:
                yield from packer.tensors(f"{here}experts.{expert}.", name)


def build(config: ModelConfig, tensors: dict[str, Tensor]) -> Decoder | Fused:
    """Put the tensors that `pack` named together into a decoder: fused where the native step can run it.

    The output projection gives float32 logits in every precision: it decides between tokens whose logits
    differ by less than bfloat16 can hold.
    """
    products: dict[str, dict[str, Tensor]] = defaultdict(dict)
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place, colon, rest = name.partition(":")
        if colon:
            kind, _, key = rest.partition(".")
            products[f"{place}:{kind}"][key] = tensor
        else:
            plain[name] = tensor
    layers: list[dict[str, Tensor | Product]] = [{} for _ in range(config.layers)]
    head: Product | None = None
    for name, state in products.items():
        place, _, kind = name.partition(":")
        product = KINDS[kind](**state)
        if place == "head":
            head = product
        else:
            _, index, key = place.split(".", 2)
            layers[int(index)][key] = product
    for name in [name for name in plain if name.startswith("layers.")]:
        _, index, key = name.split(".")
        layers[int(index)][key] = plain.pop(name)
    if head is None:
        output = plain.pop("head", plain["embedding"])
        head = Half(output) if output.dtype == torch.float16 and Half.available() else Dense(output.float())
    decoder = Decoder(config, layers=[_layer(config, layer) for layer in layers], head=head, **plain)
    return Fused(decoder) if Fused.takes(decoder) else decoder


def _layer(config: ModelConfig, found: dict[str, Any]) -> Layer:
    """A layer from what stands behind its number; the parts of its experts are gathered."""
    if "router" not in found:
        return Layer(**found)
    mlps = {name: tuple(found.pop(f"experts.{e}.{name}") for e in range(config.experts)) for name in MLP}
    return Layer(experts=Experts(router=found.pop("router"), **mlps), **found)


def default_precision(checkpoint: Checkpoint, *, native: bool) -> Precision:
    """The fastest precision whose mean KL to fp32 is at most 0.005 nats a token (docs/benchmarks.md).

    Files of blocks run as they are, where a kernel does. Others keep 16 bits: fewer would be another model.
    """
    blocks = _typical(checkpoint)
    if blocks is not None and native:
        return "int4" if _is_coarse(blocks) else "int8"
    if blocks is not None and Int4.takes(blocks.codes):
        return "int4"
    return _sixteen_bits()


def rounded(checkpoint: Checkpoint, precision: Precision) -> bool:
    """Whether `int4` or `int8` rounds matrices of this file, rather than keep the blocks that they are in."""
    if precision not in NATIVE:
        return False
    parts = [f"layers.0.{part}" for names in PRODUCTS.values() for part in names]
    return not _keeps(checkpoint, precision) or any(
        checkpoint.has(part) and checkpoint.blocks(part) is None for part in parts
    )


class _Packer:
    """Makes the products of one checkpoint at one precision, for the own kernel or for PyTorch's."""

    def __init__(self, checkpoint: Checkpoint, precision: Precision, *, native: bool) -> None:
        self.checkpoint, self.precision, self.native = checkpoint, precision, native
        self.keeps = precision in NATIVE and _keeps(checkpoint, precision)

    def tensors(self, here: str, name: str) -> Iterator[tuple[str, Tensor]]:
        """A product's tensors and its bias, of those parts that the layer has."""
        parts = [here + part for part in PRODUCTS[name] if self.checkpoint.has(here + part)]
        if not parts:
            return
        yield from _named(here + name, self.product(parts))
        biases = [f"{part}_bias" for part in parts if self.checkpoint.has(f"{part}_bias")]
        if biases:
            yield f"{here}{name}_bias", torch.cat([self.checkpoint.read(bias) for bias in biases]).float()

    def head(self) -> Product | None:
        """The output projection in 8-bit blocks, where the own kernel multiplies with them."""
        part = "embedding" if self.checkpoint.config.tied else "head"
        if self.precision not in NATIVE or not self._in_panels(part):
            return None
        return Panels.pack([self._blocks(part, 8)])

    def product(self, parts: list[str]) -> Product:
        """Neighbours as one; where a kernel cannot take them, at the next wider precision."""
        precision = self.precision
        if precision in NATIVE and self._in_panels(parts[0]):
            blocks = [self._blocks(part, 4 if precision == "int4" else 8) for part in parts]
            return Panels.pack(blocks, terms=2 if parts[0].endswith(FINE) else 1)
        if precision == "int4":
            if Panels.takes(self._columns(parts[0])):
                each = [self._blocks(part, 4) for part in parts]
                whole = Blocks(*map(torch.cat, zip(*each, strict=True)))
                if Int4.takes(whole.codes):
                    return Int4.pack(*whole)
            precision = _sixteen_bits()
        if precision == "int8" and not Int8.takes(self._columns(parts[0])):
            precision = _sixteen_bits()
        weight = torch.cat([self.checkpoint.read(part) for part in parts])
        match precision:
            case "fp32":
                return Dense(weight.float())
            case "fp16":
                return Half(weight.half()) if Half.available() else Dense(weight.float())
            case "bf16":
                return Dense(weight.bfloat16())
            case "int8":
                return Int8.quantise(weight)

    def _in_panels(self, part: str) -> bool:
        return self.native and Panels.takes(self._columns(part))

    def _columns(self, part: str) -> int:
        return shape_of(part, self.checkpoint.config)[-1]

    def _blocks(self, part: str, bits: int) -> Blocks:
        """The file's own blocks, where the precision keeps them; else the nearest to its weights."""
        stored = self.checkpoint.blocks(part) if self.keeps or bits == 8 else None
        return stored or quantise(self.checkpoint.read(part), 8 if self.keeps else bits)


def _named(place: str, product: Product) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in product.state().items():
        yield f"{place}:{type(product).__name__}.{key}", tensor


def _sixteen_bits() -> Literal["fp16", "bf16"]:
    """The better 16-bit precision that this build of PyTorch has."""
    return "fp16" if Half.available() else "bf16"


def _typical(checkpoint: Checkpoint) -> Blocks | None:
    """One of the matrices that most of a file is, told from which is how the file was quantised."""
    part = next(part for part in ("layers.0.up", "layers.0.experts.0.up") if checkpoint.has(part))
    return checkpoint.blocks(part)


def _keeps(checkpoint: Checkpoint, precision: Precision) -> bool:
    """Whether blocks stay as they are. A file of 4-bit blocks holds a few wider ones, and they stay, too."""
    blocks = _typical(checkpoint)
    return blocks is not None and (precision == "int8" or _is_coarse(blocks))


def _is_coarse(blocks: Blocks) -> bool:
    return int(blocks.codes.max()) < 32
