"""What memory allows: the bytes that a step must read, and how fast this machine reads.

No step can be shorter than (weights + cache) / bandwidth, however clever the arithmetic.
"""

import time
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig
from thermoscope.models.decoder import Decoder
from thermoscope.models.fused import Fused
from thermoscope.models.kernels import build as kernel

BUFFER = 2**29  # bytes to read: several times what caches hold


class Bandwidth(NamedTuple):
    """Bytes a second that all threads read together, and what read them: `native` or `torch`."""

    rate: float
    how: str


def read_bandwidth(threads: int, *, passes: int = 9, size: int = BUFFER) -> Bandwidth:
    """The median over some passes of all threads through a buffer that is larger than the caches."""
    words = torch.ones(size // 8, dtype=torch.int64)
    how = "native" if kernel.available() else "torch"

    def read() -> int:
        if how == "native":
            return int(kernel.library().read(words.data_ptr(), len(words), threads))
        return int(words.sum())

    times = []
    for _ in range(passes + 1):
        since = time.perf_counter()
        total = read()
        times.append(time.perf_counter() - since)
        assert total == len(words)
    return Bandwidth(words.nbytes / median(times[1:]), how)  # the first pass wakes the threads


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
