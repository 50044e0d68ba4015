"""Checkpoint + precision -> tensors -> decoder.

Neighbouring matrices that read the same input become one product: Q, K and V; gate and up. The tensors
are named by what they are, so that `models.packed` can keep them on disk and any start can build from it.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.precision import Precision
from thermoscope.errors import UnsupportedModel
from thermoscope.models.checkpoint import Checkpoint
from thermoscope.models.decoder import Decoder, Layer
from thermoscope.models.mlp import Experts
from thermoscope.models.product import KINDS, Dense, Half, Int4, Int8, Product

PRODUCTS = {"qkv": ("q", "k", "v"), "output": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
MLP = ("gate_up", "down")
VECTORS = [f"{norm}{bias}" for norm in ("attention_norm", "mlp_norm") for bias in ("", "_bias")]
VECTORS += ["attention_post_norm", "mlp_post_norm", "q_norm", "k_norm"]


def pack(checkpoint: Checkpoint, precision: Precision) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the decoder at a precision, named for `build`: `layers.0.qkv:Int4.packed`."""
    config, exact = checkpoint.config, precision == "fp32"
    for table in ("embedding", "positions", "head"):
        if checkpoint.has(table):
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
            yield from _packed(checkpoint, here, name, precision)
        for expert in range(config.experts):
            for name in MLP:
                yield from _packed(checkpoint, f"{here}experts.{expert}.", name, precision)


def build(config: ModelConfig, tensors: dict[str, Tensor]) -> Decoder:
    """Put the tensors that `pack` named together into a decoder.

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
    for name, state in products.items():
        place, _, kind = name.partition(":")
        _, index, key = place.split(".", 2)
        layers[int(index)][key] = KINDS[kind](**state)
    for name in [name for name in plain if name.startswith("layers.")]:
        _, index, key = name.split(".")
        layers[int(index)][key] = plain.pop(name)
    output = plain.pop("head", plain["embedding"])
    head = Half(output) if output.dtype == torch.float16 and Half.available() else Dense(output.float())
    return Decoder(config, layers=[_layer(config, layer) for layer in layers], head=head, **plain)


def _layer(config: ModelConfig, found: dict[str, Any]) -> Layer:
    """A layer from what stands behind its number; the parts of its experts are gathered."""
    if "router" not in found:
        return Layer(**found)
    mlps = {name: tuple(found.pop(f"experts.{e}.{name}") for e in range(config.experts)) for name in MLP}
    return Layer(experts=Experts(router=found.pop("router"), **mlps), **found)


def default_precision(checkpoint: Checkpoint) -> Precision:
    """The fastest precision whose mean KL to fp32 is at most 0.005 nats a token (docs/benchmarks.md).

    Files of 4-bit blocks run as they are. Others keep 16 bits: their 4-bit form would be another model.
    """
    return "int4" if _is_int4(checkpoint) else "fp16" if Half.available() else "bf16"


def _packed(
    checkpoint: Checkpoint, here: str, name: str, precision: Precision
) -> Iterator[tuple[str, Tensor]]:
    """A product's tensors and its bias, of those parts that the layer has."""
    parts = [here + part for part in PRODUCTS[name] if checkpoint.has(here + part)]
    if not parts:
        return
    product = _product(checkpoint, parts, precision)
    for key, tensor in product.state().items():
        yield f"{here}{name}:{type(product).__name__}.{key}", tensor
    biases = [f"{part}_bias" for part in parts if checkpoint.has(f"{part}_bias")]
    if biases:
        yield f"{here}{name}_bias", torch.cat([checkpoint.read(bias) for bias in biases]).float()


def _product(checkpoint: Checkpoint, parts: list[str], precision: Precision) -> Product:
    if precision == "int4":
        blocks = [checkpoint.blocks(part) for part in parts]
        present = [block for block in blocks if block is not None]
        if len(present) == len(parts):
            codes = torch.cat([block.codes for block in present])
            if Int4.takes(codes):
                scale = torch.cat([block.scale for block in present])
                minimum = torch.cat([block.minimum for block in present])
                return Int4.pack(codes, scale, minimum)
        if not _is_int4(checkpoint):
            raise UnsupportedModel(
                f"{checkpoint.name}: got a file without 4-bit blocks, expected Q4_0, Q4_1 or Q4_K for "
                "precision int4; take fp16, bf16 or int8."
            )
        precision = "fp16" if Half.available() else "bf16"
    weight = torch.cat([checkpoint.read(part) for part in parts])
    match precision:
        case "fp32":
            return Dense(weight.float())
        case "fp16":
            return Half(weight.half()) if Half.available() else Dense(weight.float())
        case "bf16":
            return Dense(weight.bfloat16())
        case "int8":
            return Int8.quantise(weight)


def _is_int4(checkpoint: Checkpoint) -> bool:
    """Whether most of the file is 4-bit blocks; llama.cpp's mixes keep a few matrices wider."""
    part = next(part for part in ("layers.0.up", "layers.0.experts.0.up") if checkpoint.has(part))
    blocks = checkpoint.blocks(part)
    return blocks is not None and Int4.takes(blocks.codes)
