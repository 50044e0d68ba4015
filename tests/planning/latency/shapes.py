"""Shapes and a device for the planner's tests, small enough to count by hand."""

from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.hardware import Hardware
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.work import Pass

SMALL = Architecture(
    name="small", hidden=8, layers=3, heads=4, kv_heads=2, head_dim=2, ffn=16, vocab=32, context=64
)
DEVICE = Hardware(
    name="one", vendor="NVIDIA", memory_bytes=2**30, bandwidth=1e9,
    rates={"fp32": 1e9, "fp16": 1e10, "bf16": 1e10},
    measured_rates={"bf16": 5e9}, power_watts=300, generation="Ampere",
)  # fmt: skip


def run(**more):
    given = {
        "batch": 1,
        "new": 1,
        "format": FORMATS["bf16"],
        "precision": "bf16",
        "activations": 2,
        "cache": 2.0,
    }
    return Pass(**given | more)
