"""Measure this machine with this program's own products, and keep what was found as its profile.

Random decoders of two shapes, deep and narrow, shallow and wide, run at each precision with few and many
rows. Their times are sums of what each component reads, computes and launches, so a least-squares fit that
lets no share fall below zero gives the rates.
"""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
import torch

from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.config import ModelConfig
from thermoscope.catalogue.hardware import Hardware
from thermoscope.catalogue.precision import Precision
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table
from thermoscope.models import pack
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.distribution import summarise
from thermoscope.models.kernels import build as kernel
from thermoscope.models.kernels.bandwidth import read_bandwidth
from thermoscope.models.kernels.library import cores
from thermoscope.models.parts import parts_of, shape_of
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.work import Pass, Work, components

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

COMMON = {"family": "llama", "head_dim": 64, "context": 1024, "norm_eps": 1e-5, "tied": True}
SHAPES = (
    ModelConfig(vocab=8192, hidden=512, layers=24, heads=8, kv_heads=4, ffn=1536, **COMMON),  # type: ignore[arg-type]
    ModelConfig(vocab=16384, hidden=1536, layers=4, heads=24, kv_heads=8, ffn=4096, **COMMON),  # type: ignore[arg-type]
)
RUNS = (
    (1, 1, 16),
    (1, 1, 640),
    (8, 1, 16),
    (8, 1, 384),
    (1, 32, 0),
    (1, 128, 0),
    (1, 128, 384),
)  # batch, new, past
PRECISIONS: dict[Precision, str] = {"int4": "q4_1", "int8": "q8_0", "bf16": "bf16"}
KINDS = ("product memory", "product compute", "attention", "moved", "overhead", "pass")
REPEATS, PATIENCE = 7, 0.6  # of one run; seconds after which fewer will do
ALTERNATIVES = 20  # best tokens that a step records


class Random:
    """A checkpoint of random weights, so that nothing is fetched."""

    name = identity = "random"
    tokenizer: Any = None

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._parts = set(parts_of(config))
        self._dice = torch.Generator().manual_seed(0)

    def has(self, part: str) -> bool:
        """Whether a decoder of this shape has the part."""
        return part in self._parts

    def read(self, part: str) -> torch.Tensor:
        """The part, small enough that nothing overflows."""
        return 0.02 * torch.randn(shape_of(part, self.config), generator=self._dice)

    def blocks(self, part: str) -> None:
        """Nothing is stored in blocks."""


class Timing(NamedTuple):
    """One run of one decoder: seconds, and what it had to do."""

    shape: int
    run: tuple[int, int, int]
    seconds: float
    works: tuple[Work, ...]

    @property
    def flops(self) -> float:
        """Operations in all."""
        return sum(work.count * work.flops for work in self.works)


@dataclass(frozen=True)
class Found:
    """What one precision reaches: seconds for each unit of `KINDS`, and the timings that it was fitted to."""

    costs: dict[str, float]
    timings: list[Timing]

    def predicted(self, timing: Timing) -> float:
        """Seconds that the costs give for a run."""
        return float(_amounts(timing.works) @ np.array([self.costs[kind] for kind in KINDS]))

    @property
    def residual(self) -> float:
        """The median distance of prediction and measurement, relative."""
        return median(abs(self.predicted(each) / each.seconds - 1) for each in self.timings)


def calibrated(lab: "Lab") -> Reading:
    """Measure, keep the profile, and say what was found."""
    threads = cores()
    kernel.look_again()
    bandwidth = read_bandwidth(threads).rate
    found = {}
    for precision in lab.track("measuring", list(PRECISIONS)):
        found[precision] = fit(list(timings(precision, threads)), bandwidth)
    profile = profiled(bandwidth, found, threads)
    path = machine.save(profile)
    rates = {
        precision: [each for each in one.timings if each.shape == 1 and each.run[2] in (0, 16)]
        for precision, one in found.items()
    }
    rows = [
        (
            precision, bandwidth / 1e9, 100 / (one.costs["product memory"] * bandwidth),
            1e-9 / one.costs["product compute"] if one.costs["product compute"] else None,
            1e6 * one.costs["overhead"], 1e3 * one.costs["pass"], 100 * one.residual,
        )
        for precision, one in found.items()
    ]  # fmt: skip
    return Reading(
        findings=[
            f"This machine reads {bandwidth / 1e9:.3g} GB/s with {threads} threads.",
            f"Its profile is kept in {path}.",
            "Name it as --gpu this from now on.",
        ],
        tables=[Table("calibration", "What this program reaches here", COLUMNS, rows)],
        figures=[
            Figure(
                "rates", "Operations a second by rows at once",
                [
                    line(
                        [each.run[0] * each.run[1] for each in timed],
                        [each.flops / each.seconds / 1e9 for each in timed],
                        precision, mode="lines+markers",
                    )
                    for precision, timed in rates.items()
                ],
                axes("rows", "10⁹ operations a second", xaxis={"type": "log"}),
            )
        ],
        checks=[
            Check(
                f"{precision}: fit = measurement", "median over rows, contexts and two shapes, relative",
                one.residual, 0.09,
            )
            for precision, one in found.items()
        ],
    )  # fmt: skip


COLUMNS = (
    Column("precision", "Of the weights"),
    Column("bandwidth", "Read by all threads", "GB/s"),
    Column("reached", "Of it by products of one row", "%", ".3g"),
    Column("rate", "Products of many rows", "10⁹ operations/s"),
    Column("kernel", "A component, however small", "µs"),
    Column("pass", "A pass, whatever is in it", "ms"),
    Column("residual", "Median error of the fit", "%", ".2g"),
)


def timings(precision: Precision, threads: int) -> Iterator[Timing]:
    """Every run of every shape at one precision."""
    native = kernel.available() and precision in ("int4", "int8")
    if kernel.available():
        kernel.library().threads = threads if native else 1
    torch.set_num_threads(1 if native else threads)
    for index, config in enumerate(SHAPES):
        decoder = pack.build(config, dict(pack.pack(Random(config), precision, native=native)))
        shape = Architecture.of(config, "random")
        for batch, new, past in RUNS:
            cache = KVCache(config, slots=batch, context=config.context, dtype=decoder.cache_type)
            tokens = torch.arange(batch * new) % config.vocab
            spans = [Span(slot, past, new) for slot in range(batch)]
            ends = [new * (slot + 1) - 1 for slot in range(batch)]

            def once() -> None:
                cache.lengths = [past] * batch  # noqa: B023
                hidden = decoder.forward(tokens, spans, cache)  # noqa: B023
                summarise(decoder.logits(hidden[ends]), [0.0] * batch, best=ALTERNATIVES)  # noqa: B023

            run = Pass(
                batch=batch, new=new, past=past, format=FORMATS[PRECISIONS[precision]], precision="bf16",
                activations=4, cache=2.0 if native else 4.0,
            )  # fmt: skip
            yield Timing(index, (batch, new, past), _quickest(once), components(shape, run))


def _quickest(once: Callable[[], None]) -> float:
    """The least of some repetitions: what else runs on the machine only ever adds."""
    once()
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < REPEATS and (len(taken) < 3 or time.perf_counter() - begun < PATIENCE):
        since = time.perf_counter()
        once()
        taken.append(time.perf_counter() - since)
    return min(taken)


def _amounts(works: Sequence[Work]) -> np.ndarray:
    """How much of each of `KINDS` a pass has."""
    products = [work for work in works if work.kind == "product"]
    looks = [work for work in works if work.kind == "attention"]
    others = [work for work in works if work.kind not in ("product", "attention")]
    return np.array(
        [
            sum(work.count * work.bytes for work in products),
            sum(work.count * work.flops for work in products),
            sum(work.count * work.flops for work in looks),
            sum(work.count * work.bytes for work in (*looks, *others)),
            sum(work.count * work.kernels for work in works),
            1.0,
        ]
    )


def fit(timed: list[Timing], bandwidth: float) -> Found:
    """Costs that are nowhere negative, and least squares of the relative error.

    A byte of weights costs no less than reading it, so only what lies above that is fitted.
    """
    amounts = np.array([_amounts(each.works) / each.seconds for each in timed])
    floor = np.array([1 / bandwidth, *[0.0] * (len(KINDS) - 1)])
    wanted = 1 - amounts @ floor
    scale = amounts.max(axis=0)
    used = list(range(len(KINDS)))
    while True:
        solved = np.linalg.lstsq(amounts[:, used] / scale[used], wanted, rcond=None)[0]
        if (solved >= 0).all():
            break
        used.pop(int(solved.argmin()))
    floor[used] += solved / scale[used]
    return Found(dict(zip(KINDS, floor.tolist(), strict=True)), timed)


def profiled(bandwidth: float, found: dict[Precision, Found], threads: int) -> machine.Profile:
    """The costs as a device and the shares of it that components reach; one adds to the other, p = 1."""
    flops = {precision: 1 / max(one.costs["product compute"], 1e-15) for precision, one in found.items()}
    rate = max(flops.values())
    device = Hardware(
        name="this machine", vendor="CPU", generation="here", bandwidth=bandwidth,
        memory_bytes=psutil.virtual_memory().total, usable_bytes=psutil.virtual_memory().total,
        rates={}, measured_rates=dict.fromkeys(("bf16", "fp16", "fp32"), rate),
        source="measured",
    )  # fmt: skip
    factors: dict[str, float] = {"overlap": 1.0}
    for precision, one in found.items():
        name, costs = f"thermoscope.{precision}", one.costs
        widths = {FORMATS[PRECISIONS[precision]].width, "8bit", "full"}
        share = 1 / (costs["product memory"] * bandwidth)
        factors |= {f"{name}.{width}.memory": share for width in widths}
        factors |= {f"{name}.{width}.compute": flops[precision] / rate for width in widths}
        factors[f"{name}.attention.compute"] = 1 / (max(costs["attention"], 1e-18) * rate)
        moved = 1 / (max(costs["moved"], 1e-18) * bandwidth)
        factors[f"{name}.attention.memory"] = factors[f"{name}.moved.memory"] = moved
        factors[f"{name}.overhead"] = costs["overhead"]
        factors[f"{name}.pass"] = costs["pass"]
    about = f"{platform.processor() or platform.machine()}, {threads} threads, {time.strftime('%Y-%m-%d')}"
    return machine.Profile(device, factors, about)
