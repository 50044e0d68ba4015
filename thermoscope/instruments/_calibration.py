"""Measure what this program takes here, part by part and by rows, and keep it as this machine's profile.

Random decoders of several shapes run at each precision with few and many rows (`_trial`). At one number of
rows their layers take the sum of what each component is, times what a unit of its kind costs, so least
squares in which no cost falls below zero give the costs; the output projection, the sampler and Python are
timed apart. How far a model of another shape may lie off is seen by leaving each shape out of the fit.
"""

import math
import platform
import time
from collections.abc import Mapping, Sequence
from itertools import chain, combinations
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import psutil

from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.hardware import Hardware
from thermoscope.catalogue.precision import Precision
from thermoscope.engine.scheduler import PREFILL_CHUNK
from thermoscope.instruments._trial import SHAPES, Handed, Run, Timing, Trial
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table
from thermoscope.models.kernels import build as kernel
from thermoscope.models.kernels.bandwidth import read_bandwidth
from thermoscope.models.kernels.native import cores
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.costs import LAYERS, Costs, amount, kind
from thermoscope.planning.latency.efficiency import Phase, Spread
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.work import Pass, Work, components

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

FORMAT_OF: dict[Precision, str] = {precision: name for name, precision in machine.PRECISIONS.items()}
WITHIN = 0.1  # of a time, the median distance of a shape that was left out
COLUMNS = (
    Column("precision", "Of the weights"),
    Column("reached", "Of the bandwidth by products of one row", "%", ".3g"),
    Column("rate", "Products of many rows", "10⁹ operations/s"),
    Column("kernel", "A component of one row, however small", "µs"),
    Column("python", "Python between the parts of a step", "ms"),
    Column("low", "Nine of ten steps took more of what was foretold", "", ".3g"),
    Column("high", "Nine of ten steps took less", "", ".3g"),
    Column("left_out", "Median error of a shape that was left out", "%", ".2g"),
)


def calibrated(lab: "Lab") -> Reading:
    """Measure, keep the profile, and say what was found."""
    since = time.perf_counter()
    threads = cores()
    kernel.look_again()
    bandwidth = read_bandwidth(threads).rate
    measured = {precision: measure(precision) for precision in lab.track("measuring", list(FORMAT_OF))}
    profile = profiled(bandwidth, measured, threads)
    path = machine.save(profile)
    rows, checks = [], []
    for precision, (timings, handed) in measured.items():
        costs, spread = profile.costs[precision], profile.spreads[precision]["decode"]
        reached = FORMATS[FORMAT_OF[precision]].bytes / (costs.decode["product"][0][1] * bandwidth)
        gap = median(abs(median(ratios) - 1) for ratios in left_out(timings, handed).values())
        rows.append(
            (
                precision, 100 * reached, rate(costs) / 1e9, 1e6 * costs.decode["kernel"][0][1],
                1e3 * costs.python[0][1], spread.low, spread.high, 100 * gap,
            )
        )  # fmt: skip
        checks.append(
            Check(
                f"{precision}: foretold = measured",
                "median over runs of shapes that were left out",
                gap,
                WITHIN,
            )
        )
    return Reading(
        findings=[
            f"This machine reads {bandwidth / 1e9:.3g} GB/s with {threads} threads; "
            f"measured in {time.perf_counter() - since:.0f} s.",
            f"Its profile is kept in {path}.",
            "Name it as --gpu this from now on.",
        ],
        tables=[Table("calibration", "What this program reaches here", COLUMNS, rows)],
        figures=[_rates({precision: timings for precision, (timings, _) in measured.items()})],
        checks=checks,
    )


def measure(precision: Precision) -> tuple[list[Timing], Handed]:
    """Every run of every shape at one precision, and what Python takes."""
    with Trial(precision) as trial:
        return list(trial.timings()), trial.handed()


def fit(timings: Sequence[Timing], handed: Handed) -> Costs:
    """The costs that explain the timings best."""
    decode, prefill = ({name: [] for name in LAYERS} for _ in range(2))  # type: ignore[var-annotated]
    head, sampling, draw = [], [], []
    for rows in sorted({timing.run.rows for timing in timings}):
        answering = [each for each in timings if each.run.new == 1 and each.run.rows == rows]
        reading = [each for each in timings if (each.run.new > 1 or rows == 1) and each.run.rows == rows]
        for table, some in ((decode, answering), (prefill, reading)):
            if some:
                solved = least([[*_layers(each)] for each in some], [each.median("layers") for each in some])
                for name, cost in zip(LAYERS, solved, strict=True):
                    table[name].append((rows, cost))
        if answering:
            shapes = [SHAPES[each.shape] for each in answering]
            weights = [[shape.vocab * shape.hidden] for shape in shapes]
            logits = [[rows * shape.vocab, 1.0] for shape in shapes]
            head.append((rows, least(weights, [each.median("head") for each in answering])[0]))
            logit, whole = least(logits, [each.median("sampler") for each in answering])
            sampling.append((rows, logit))
            draw.append((rows, whole))
    return Costs(decode, prefill, head, sampling, draw, sorted(handed.steps.items()), handed.request)


def least(amounts: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Costs that are nowhere negative, and least squares of the relative error."""
    wanted = np.array(amounts) / np.array(seconds)[:, None]
    scale = wanted.max(axis=0)
    used = [at for at in range(wanted.shape[1]) if scale[at] > 0]
    solved, error = np.zeros(wanted.shape[1]), math.inf
    # Those that are not zero solve the plain problem without the others; there are few sets to try.
    for some in chain.from_iterable(combinations(used, size) for size in range(1, len(used) + 1)):
        columns = wanted[:, some] / scale[[*some]]
        found = np.linalg.lstsq(columns, np.ones(len(wanted)), rcond=None)[0]
        left = float(np.square(columns @ found - 1).sum())
        if (found >= 0).all() and left < error:
            solved[:], error = 0, left
            solved[[*some]] = found / scale[[*some]]
    return [float(each) for each in solved]


def left_out(timings: Sequence[Timing], handed: Handed) -> dict[tuple[int, Run], list[float]]:
    """Measured over foretold for every step of every run, by costs that were fitted without its shape."""
    found = {}
    for shape in sorted({each.shape for each in timings}):
        costs = fit([each for each in timings if each.shape != shape], handed)
        for each in timings:
            if each.shape == shape:
                expected = foretold(costs, each)
                found[shape, each.run] = [whole / expected for whole in each.whole()]
    return found


def foretold(costs: Costs, timing: Timing) -> float:
    """Seconds of a run's layers, output projection and sampler, by these costs."""
    run = passed(timing.run)
    return sum(sum(costs.seconds(work, run)) for work in _works(timing))


def profiled(
    bandwidth: float, measured: Mapping[Precision, tuple[Sequence[Timing], Handed]], threads: int
) -> machine.Profile:
    """What was measured, as a device."""
    costs = {precision: fit(*each) for precision, each in measured.items()}
    spreads = {precision: _spreads(left_out(*each)) for precision, each in measured.items()}
    memory = psutil.virtual_memory().total
    device = Hardware(
        name="this machine", vendor="CPU", generation="here", bandwidth=bandwidth, memory_bytes=memory,
        usable_bytes=memory, rates={}, source="measured",
        measured_rates=dict.fromkeys(("bf16", "fp16", "fp32"), max(map(rate, costs.values()))),
    )  # fmt: skip
    about = f"{platform.processor() or platform.machine()}, {threads} threads, {time.strftime('%Y-%m-%d')}"
    return machine.Profile(device, costs, spreads, PREFILL_CHUNK, about)


def rate(costs: Costs) -> float:
    """Operations a second of products of the most rows."""
    rows, each = costs.prefill["product"][-1]
    return 2 * rows / max(each, 1e-15)


def passed(run: Run) -> Pass:
    """A run as the planner's pass; costs do not depend on how its weights are kept."""
    return Pass(
        batch=run.batch, new=run.new, past=run.past, format=FORMATS["bf16"], precision="bf16",
        activations=machine.STREAM, cache=2.0,
    )  # fmt: skip


def _works(timing: Timing) -> tuple[Work, ...]:
    return components(Architecture.of(SHAPES[timing.shape], "random"), passed(timing.run))


def _layers(timing: Timing) -> list[float]:
    """How much of each of `LAYERS` a run has."""
    works = [work for work in _works(timing) if work.name != "head" and work.kind != "sampling"]
    sums = {name: sum(work.count * amount(work) for work in works if kind(work) == name) for name in LAYERS}
    return [*(sums[name] for name in LAYERS[:-1]), sum(work.count * work.kernels for work in works)]


def _spreads(ratios: Mapping[tuple[int, Run], Sequence[float]]) -> dict[Phase, Spread]:
    """Between which shares of what was foretold nine tenths of the steps lay, stretched to hold it."""
    found: dict[Phase, Spread] = {}
    phases: tuple[tuple[Phase, bool], ...] = (("decode", True), ("prefill", False))
    for phase, answers in phases:
        some = [ratio for (_, run), each in ratios.items() if (run.new == 1) == answers for ratio in each]
        low, high = np.quantile(some, [0.05, 0.95])
        found[phase] = Spread(min(1.0, float(low)), max(1.0, float(high)), len(some))
    return found


def _rates(measured: Mapping[Precision, Sequence[Timing]]) -> Figure:
    lines = []
    for precision, timings in measured.items():
        few = [each for each in timings if each.shape == 1 and each.run.past in (0, 16)]
        flops = [sum(work.count * work.flops for work in _works(each) if work.name != "head") for each in few]
        lines.append(
            line(
                [each.run.rows for each in few],
                [every / each.median("layers") / 1e9 for every, each in zip(flops, few, strict=True)],
                precision, mode="lines+markers",
            )
        )  # fmt: skip
    return Figure(
        "rates", "Operations a second by rows at once", lines,
        axes("rows", "10⁹ operations a second", xaxis={"type": "log"}),
    )  # fmt: skip
