"""How fast this machine reads its memory."""

import time
from statistics import median
from typing import NamedTuple

import torch

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
            return int(kernel.loaded().read(words.data_ptr(), len(words), threads))
        return int(words.sum())

    times = []
    for _ in range(passes + 1):
        since = time.perf_counter()
        total = read()
        times.append(time.perf_counter() - since)
        assert total == len(words)
    return Bandwidth(words.nbytes / median(times[1:]), how)  # the first pass wakes the threads
