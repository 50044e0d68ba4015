"""The reader against sums known beforehand."""

import numpy as np
import pytest

from thermoscope.models.kernels import bandwidth
from thermoscope.models.kernels import build as kernel


@pytest.mark.skipif(not kernel.available(), reason="the native kernel is not built here")
@pytest.mark.parametrize("count", [0, 1, 3, 7, 64, 1001, 4099])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_reader_reads_every_word_once(count, threads):
    words = np.random.default_rng(count).integers(-(2**62), 2**62, count)
    exact = sum(words.tolist())
    got = kernel.loaded().read(words.ctypes.data, count, threads)
    assert (got - exact) % 2**64 == 0


def test_without_the_kernel_torch_reads(monkeypatch):
    monkeypatch.setattr(kernel, "available", lambda: False)
    found = bandwidth.read_bandwidth(1, passes=3, size=2**24)
    assert found.how == "torch"
    assert found.rate > 1e8


def test_the_rate_is_bytes_by_the_median_time(monkeypatch):
    """A clock that says 1, 2 and 9 seconds for three passes, after 100 for the one that is not counted."""
    ticks = iter([0, 100, 0, 1, 0, 2, 0, 9])
    monkeypatch.setattr(bandwidth.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(kernel, "available", lambda: False)
    assert bandwidth.read_bandwidth(1, passes=3, size=4096).rate == 2048
