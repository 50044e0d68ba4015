"""Checkpoint + precision -> tensors -> decoder.

Neighbouring matrices that read the same input become one product: Q, K and V; gate and up. The tensors
are named by what they are, so that `models.packed` can keep them on disk and any start can build from it.
"""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.precision import Precision
from thermoscope.errors import UnsupportedModel
from thermoscope.models.checkpoint import Checkpoint
from thermoscope.models.decoder import Decoder, Layer
from thermoscope.models.product import KINDS, Dense, Half, Int4, Int8, Product

PRODUCTS = {"qkv": ("q", "k", "v"), "output": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
NORMS = ("attention_norm", "mlp_norm", "q_norm", "k_norm")


def pack(checkpoint: Checkpoint, precision: Precision) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of the decoder at a precision, named for `build`: `layers.0.qkv:Int4.packed`."""
    exact = precision == "fp32"
    yield "embedding", checkpoint.read("embedding").to(torch.float32 if exact else torch.float16)
    if not checkpoint.config.tied:
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
            product = _product(checkpoint, [here + part for part in parts], precision)
            for key, tensor in product.state().items():
                yield f"{here}{name}:{type(product).__name__}.{key}", tensor
            biases = [here + part + "_bias" for part in parts if checkpoint.has(here + part + "_bias")]
            if biases:
                yield f"{here}{name}_bias", torch.cat([checkpoint.read(bias) for bias in biases]).float()


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
        _, index, key = place.split(".")
        layers[int(index)][key] = KINDS[kind](**state)
    for name in [name for name in plain if name.startswith("layers.")]:
        _, index, key = name.split(".")
        layers[int(index)][key] = plain.pop(name)
    output = plain.pop("head", plain["embedding"])
    head = Half(output) if output.dtype == torch.float16 and Half.available() else Dense(output.float())
    return Decoder(
        config,
        embedding=plain["embedding"],
        layers=[Layer(**layer) for layer in layers],  # type: ignore[arg-type]
        final_norm=plain["final_norm"],
        head=head,
        rope_factors=plain.get("rope_factors"),
    )


def default_precision(checkpoint: Checkpoint) -> Precision:
    """The fastest precision whose mean KL to fp32 is at most 0.005 nats a token (docs/benchmarks.md).

    Files of 4-bit blocks run as they are. Others keep 16 bits: their 4-bit form would be another model.
    """
    return "int4" if _is_int4(checkpoint) else "fp16" if Half.available() else "bf16"


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
    blocks = checkpoint.blocks("layers.0.gate")
    return blocks is not None and Int4.takes(blocks.codes)
