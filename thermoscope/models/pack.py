"""Checkpoint + precision -> tensors -> decoder.

Neighbouring matrices that read the same input become one product: Q, K and V; gate and up. The tensors
are named by what they are, so that `models.packed` can keep them on disk and any start can build from it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.precision import NATIVE, Precision
from thermoscope.models.checkpoint import Blocks, Checkpoint, shape_of
from thermoscope.models.decoder import Decoder, Layer
from thermoscope.models.fused import Fused
from thermoscope.models.panels import Panels, quantise
from thermoscope.models.product import Dense, Half, Int4, Int8, Product

KINDS: dict[str, Callable[..., Product]] = {kind.__name__: kind for kind in (Dense, Half, Int8, Int4, Panels)}
PRODUCTS = {"qkv": ("q", "k", "v"), "output": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
NORMS = ("attention_norm", "mlp_norm", "q_norm", "k_norm")


def pack(
    checkpoint: Checkpoint, precision: Precision, *, native: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the decoder at a precision, named for `build`: `layers.0.qkv:Int4.packed`.

    `native`: for the own kernel, which must have been built.
    """
    packer = _Packer(checkpoint, precision, native=native)
    exact = precision == "fp32"
    yield "embedding", checkpoint.read("embedding").to(torch.float32 if exact else torch.float16)
    output = "embedding" if checkpoint.config.tied else "head"
    head = packer.head(output)
    if head is not None:
        yield from _named("head", head)
    elif not checkpoint.config.tied:
        yield "head", checkpoint.read("head").to(torch.float32 if exact else torch.float16)
    yield "final_norm", checkpoint.read("final_norm").float()
    if checkpoint.has("rope_factors"):
        yield "rope_factors", checkpoint.read("rope_factors").float()
    for index in range(checkpoint.config.layers):
        here = f"layers.{index}."
        for norm in NORMS:
            if checkpoint.has(here + norm):
                yield here + norm, checkpoint.read(here + norm).float()
        for name, parts in PRODUCTS.items():
            yield from _named(here + name, packer.product([here + part for part in parts]))
            biases = [here + part + "_bias" for part in parts if checkpoint.has(here + part + "_bias")]
            if biases:
                yield f"{here}{name}_bias", torch.cat([checkpoint.read(bias) for bias in biases]).float()


def _named(place: str, product: Product) -> Iterator[tuple[str, Tensor]]:
    for key, tensor in product.state().items():
        yield f"{place}:{type(product).__name__}.{key}", tensor


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
            continue
        _, index, key = place.split(".")
        layers[int(index)][key] = product
    for name in [name for name in plain if name.startswith("layers.")]:
        _, index, key = name.split(".")
        layers[int(index)][key] = plain.pop(name)
    if head is None:
        output = plain.pop("head", plain["embedding"])
        head = Half(output) if output.dtype == torch.float16 and Half.available() else Dense(output.float())
    decoder = Decoder(
        config,
        embedding=plain["embedding"],
        layers=[Layer(**layer) for layer in layers],  # type: ignore[arg-type]
        final_norm=plain["final_norm"],
        head=head,
        rope_factors=plain.get("rope_factors"),
    )
    return Fused(decoder) if Fused.takes(decoder) else decoder


def default_precision(checkpoint: Checkpoint, *, native: bool) -> Precision:
    """The fastest precision whose mean KL to fp32 is at most 0.005 nats a token (docs/benchmarks.md).

    Files of blocks run as they are, where a kernel does. Others keep 16 bits: fewer would be another model.
    """
    blocks = checkpoint.blocks("layers.0.gate")
    if blocks is not None and native:
        return "int4" if _is_coarse(blocks) else "int8"
    if blocks is not None and Int4.takes(blocks.codes):
        return "int4"
    return "fp16" if Half.available() else "bf16"


def rounded(checkpoint: Checkpoint, precision: Precision) -> bool:
    """Whether `int4` or `int8` rounds matrices of this file, rather than keep the blocks that they are in."""
    if precision not in NATIVE:
        return False
    if not _keeps(checkpoint, precision):
        return True
    parts = (part for names in PRODUCTS.values() for part in names)
    return any(checkpoint.blocks(f"layers.0.{part}") is None for part in parts)


class _Packer:
    """Makes the products of one checkpoint at one precision, for the own kernel or for PyTorch's."""

    def __init__(self, checkpoint: Checkpoint, precision: Precision, *, native: bool) -> None:
        self.checkpoint, self.precision, self.native = checkpoint, precision, native
        self.keeps = precision in NATIVE and _keeps(checkpoint, precision)

    def head(self, part: str) -> Product | None:
        """The output projection in 8-bit blocks, where the own kernel multiplies with them."""
        if self.precision not in NATIVE or not self._in_panels(part):
            return None
        return Panels.pack([self._blocks(part, 8)])

    def product(self, parts: list[str]) -> Product:
        """Neighbours as one; where a kernel cannot take them, at the next wider precision."""
        precision = self.precision
        if precision in NATIVE and self._in_panels(parts[0]):
            return Panels.pack([self._blocks(part, 4 if precision == "int4" else 8) for part in parts])
        if precision == "int4":
            if Panels.takes(self._columns(parts[0])):
                blocks = Blocks(*map(torch.cat, zip(*(self._blocks(part, 4) for part in parts), strict=True)))
                if Int4.takes(blocks.codes):
                    return Int4.pack(*blocks)
            precision = "fp16" if Half.available() else "bf16"
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


def _keeps(checkpoint: Checkpoint, precision: Precision) -> bool:
    """Whether blocks stay as they are. A file of 4-bit blocks holds a few wider ones, and they stay, too."""
    blocks = checkpoint.blocks("layers.0.gate")
    return blocks is not None and (precision == "int8" or _is_coarse(blocks))


def _is_coarse(blocks: Blocks) -> bool:
    return int(blocks.codes.max()) < 32
