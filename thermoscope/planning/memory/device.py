"""What of a device a plan may take, and how sure a plan is."""

from typing import Literal

from thermoscope.catalogue.hardware import Hardware
from thermoscope.planning.memory.plan import Plan

GIB = 2**30
CONTEXT = 0.5 * GIB  # a CUDA context with its kernels, which no allocator counts
# What PyTorch's caching allocator cannot hand out for being in pieces, as a share of the peak. Chosen so that
# on an 80 GB card the measured runs that ended for want of memory and those that did not are told apart:
# activations of many sizes leave more pieces than the optimizer's step, whose tensors are those of every step
# before.
PIECES, PIECES_IN_STEP = 0.077, 0.04
USABLE = 0.94  # of what is sold, where nobody measured: the mean of the measured devices
Kind = Literal["training", "inference"]
BANDS = {"training": (0.03, 0.06), "inference": (0.05, 0.10)}
REASONS = {
    "training": "nine of ten measured runs lie inside; what only one modelling code keeps is left out",
    "inference": "runtimes keep buffers of their own that nobody documents",
}


def needed(plan: Plan) -> float:
    """Bytes of a device that a plan takes: the pieces that are lost and the context with it."""
    pieces = PIECES_IN_STEP if plan.peak_phase == "step" else PIECES
    return plan.peak * (1 + pieces) + CONTEXT


def usable(device: Hardware) -> float:
    """Bytes that a process can have: measured, else a share of what is sold."""
    return device.usable_bytes if device.usable_bytes is not None else USABLE * device.memory_bytes


def band(peak: float, kind: Kind) -> tuple[float, float]:
    """From and to, between which nine of ten measured rows lie."""
    below, above = BANDS[kind]
    return peak * (1 - below), peak * (1 + above)
