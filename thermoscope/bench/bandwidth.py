"""What memory allows: the bytes that a step must read.

No step can be shorter than (weights + cache) / bandwidth, however clever the arithmetic; the bandwidth is
measured by `models.kernels.bandwidth`.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.models.decoder import Decoder
from thermoscope.models.fused import Fused


def weight_bytes(decoder: Decoder | Fused) -> int:
    """Bytes of weights that a step of one row reads: all products with the head, norms and biases.

    The embedding is looked up, a row a token, and not counted. Of a mixture all experts are.
    """
    parts = (decoder.layers, decoder.final_norm, decoder.head)
    return sum(tensor.nbytes for tensor in _tensors(parts))


def cache_bytes(config: ModelConfig, kind: torch.dtype, length: int) -> int:
    """Bytes of keys and values that one row reads after `length` tokens, its own among them."""
    windowed = config.windowed or (False,) * config.layers
    window = config.window or length
    seen = sum(min(length, window) if narrow else length for narrow in windowed)
    return 2 * seen * config.kv_heads * config.head_dim * kind.itemsize


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _tensors(each)
    elif hasattr(value, "state"):
        yield from value.state().values()
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))
