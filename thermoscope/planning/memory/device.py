"""What of a device a plan may take, and how sure a plan is."""

from typing import Literal

from thermoscope.catalogue.hardware import Hardware

GIB = 2**30
CONTEXT = 0.5 * GIB  # a CUDA context with its kernels, which no allocator counts
SLACK = 0.04  # of the peak: what PyTorch's caching allocator cannot hand out for being in pieces
USABLE = 0.985  # of what is sold, where nobody measured: the least of the measured ones is 0.91 (T4, with ECC)
Kind = Literal["training", "inference"]
BANDS = {"training": (0.03, 0.05), "inference": (0.05, 0.10)}


def needed(peak: float) -> float:
    """Bytes of a device that a plan with this peak of allocated bytes takes: slack and context with it."""
    return peak * (1 + SLACK) + CONTEXT


def usable(device: Hardware) -> float:
    """Bytes that a process can have: measured, else a share of what is sold."""
    return device.usable_bytes if device.usable_bytes is not None else USABLE * device.memory_bytes


def band(peak: float, kind: Kind) -> tuple[float, float]:
    """From and to, between which nine of ten measured rows lie."""
    below, above = BANDS[kind]
    return peak * (1 - below), peak * (1 + above)
