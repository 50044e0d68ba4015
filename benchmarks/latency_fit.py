"""Fit what kernels reach of their ceilings to measured times, and write it down for the planner.

    python benchmarks/latency_fit.py ROWS.csv [--write]

Half of the rows are used, by a hash of their ids; the other half says how wide the bands are, and so do fits
that leave a whole source out. Every factor is drawn towards what a kernel of its kind is known to do, so that
a few odd rows do not move it far.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import accuracy
import numpy as np
from latency_rows import Row, read

from thermoscope.planning.latency import efficiency
from thermoscope.planning.latency.efficiency import case
from thermoscope.planning.latency.roofline import OVERLAP, host_factors, launches, terms

ENOUGH = 12  # rows for a spread of their own
SIGMA = 0.1  # of the logarithm of a time: beyond it a row pulls no harder
# What a factor is drawn towards, and how far from it (in the logarithm) is unremarkable.
CENTRES = {
    "overhead": 4e-6, "link.overhead": 1e-5, "pcie.overhead": 2e-5,  # seconds
    "eager.host": 2.5e-5, "compiled.host": 2e-6, "serving.host": 3e-6, "fastertransformer.host": 5e-6,
    "llama.cpp.host": 4e-6, "edge.host": 4e-6, "eager.pass": 3e-4,
    "compiled.overhead": 0.6, "kernels.overhead": 0.8, "fused kernels.overhead": 0.8,
    "sampling.overhead": 5.0, "attention.overhead": 1.5,
    "product.memory": 0.85, "product.compute": 0.85, "attention.compute": 0.5,
    "4bit.unpack": 1 / 6, "8bit.unpack": 1 / 2,
}  # fmt: skip
ENDS = {".pass": 2e-4, ".cache": 2.0, "unmeasured.compute": 0.85}
MOVED = ("norm", "rotary", "activation", "add", "embedding", "sampling")
OUT = Path(efficiency.__file__).with_suffix(".json")


def centre(name: str) -> float:
    """What a factor is where nothing was measured."""
    if name in CENTRES:
        return CENTRES[name]
    parts = name.split(".")
    if parts[0] in ("eager", "fused") and parts[1] in MOVED:
        return 0.6
    return next((value for end, value in ENDS.items() if name.endswith(end)), 1.0)


def width(name: str) -> float:
    """How far a factor may lie from its centre."""
    parts = name.split(".")
    generation = name[0].isupper()
    if parts[-1] == "overhead":
        return 0.3
    if parts[-1] == "host":
        return 0.5 if generation else 0.25
    if parts[-1] in ("pass", "gather"):
        return 0.7
    if parts[0] in ("eager", "fused") and parts[1] in MOVED:
        return 1.0
    if name in ("capped.memory", "server.memory", "desktop.memory"):
        return 0.1
    if name.endswith("attention.compute"):
        return 0.5
    return 0.25 if parts[-1] == "compute" and "unmeasured" not in name else 0.15


class Ceiling(NamedTuple):
    """One kind of term of every component: its seconds, and which factors it is divided (or multiplied)
    by.
    """

    seconds: np.ndarray
    uses: np.ndarray

    def at(self, log_factors: np.ndarray, sign: float = -1.0) -> np.ndarray:
        return self.seconds * np.exp(sign * (self.uses @ log_factors))


class Problem:
    """All rows as arrays, so that one evaluation is a few array operations; the formula is roofline's."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.names: list[str] = []
        known: dict[str, int] = {}
        columns: dict[str, list[tuple[float, list[int]]]] = {
            key: [] for key in ("memory", "cached", "compute", "unpack", "overhead")
        }
        counts, starts, hosts, times, row_starts = [], [], [], [], []

        def index(names: Sequence[str]) -> list[int]:
            for name in names:
                if name not in known:
                    known[name] = len(self.names)
                    self.names.append(name)
            return [known[name] for name in names]

        for row in rows:
            row_starts.append(len(times))
            for often, works in row.passes:
                starts.append(len(counts))
                times.append(often)
                called = launches(works) if row.whole else 0
                hosts.append(
                    (float(called), index(host_factors(row.device, row.framework)) if called else [])
                )
                for work in works:
                    part = terms(work, row.device, row.framework)
                    counts.append(part.count)
                    columns["memory"].append((part.memory, index(part.memory_factors)))
                    columns["cached"].append((part.cached, index(part.cached_factors)))
                    columns["compute"].append((part.compute, index(part.compute_factors)))
                    columns["unpack"].append((part.unpack, index(part.unpack_factors) if part.unpack else []))
                    columns["overhead"].append((part.kernels, index(part.overhead_factors)))
                if row.whole:
                    counts.append(1)
                    for key in columns:
                        columns[key].append((0.0, []))
                    columns["overhead"][-1] = (1.0, index([f"{row.framework}.pass"]))
        self.terms = {key: self._ceiling(each) for key, each in columns.items()}
        self.hosts = self._ceiling(hosts)
        self.counts, self.times = np.array(counts, float), np.array(times, float)
        self.starts, self.row_starts = np.array(starts), np.array(row_starts)
        self.measured = np.log([row.seconds for row in rows])
        self.centres = np.log([centre(name) for name in self.names])
        self.pulls = np.array([width(name) for name in self.names]) ** -2.0

    def _ceiling(self, column: Sequence[tuple[float, list[int]]]) -> Ceiling:
        uses = np.zeros((len(column), len(self.names)))
        for at, (_, names) in enumerate(column):
            uses[at, names] = 1
        return Ceiling(np.array([seconds for seconds, _ in column]), uses)

    def predict(self, log_factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log of every row's seconds, and its derivative by the log of every factor."""
        part = {key: each.at(log_factors) for key, each in self.terms.items() if key != "overhead"}
        overhead = self.terms["overhead"].at(log_factors, 1.0)
        memory = part["memory"] + part["cached"]
        both = (memory**OVERLAP + part["compute"] ** OVERLAP + part["unpack"] ** OVERLAP) ** (1 / OVERLAP)
        device = np.add.reduceat(self.counts * (both + overhead), self.starts)
        host = self.hosts.at(log_factors, 1.0)
        taken = np.maximum(device, host)
        total = np.add.reduceat(self.times * taken, self.row_starts)
        slope = self.terms["overhead"].uses * (self.counts * overhead)[:, None]
        safe = np.maximum(both, 1e-300)
        for key, whole in (
            ("memory", memory), ("cached", memory), ("compute", part["compute"]), ("unpack", part["unpack"]),
        ):  # fmt: skip
            share = self.counts * (whole / safe) ** (OVERLAP - 1) * part[key]
            slope -= self.terms[key].uses * share[:, None]
        slope = np.add.reduceat(slope, self.starts, axis=0)
        slope[host > device] = (self.hosts.uses * host[:, None])[host > device]
        return np.log(total), np.add.reduceat(slope * self.times[:, None], self.row_starts, axis=0) / total[
            :, None
        ]

    def fit(self, used: np.ndarray, steps: int = 30) -> np.ndarray:
        """The log of every factor: least squares that outliers do not bend, by Levenberg and Marquardt."""
        at, damping = self.centres.copy(), 1e-2

        def cost(log_factors: np.ndarray) -> float:
            residual = (self.predict(log_factors)[0] - self.measured)[used] / SIGMA
            drawn = self.pulls * (log_factors - self.centres) ** 2
            return float((2 * (np.sqrt(1 + residual**2) - 1)).sum() + drawn.sum())

        least = cost(at)
        for _ in range(steps):
            value, slope = self.predict(at)
            residual, slope = (value - self.measured)[used] / SIGMA, slope[used] / SIGMA
            weights = 1 / np.sqrt(1 + residual**2)
            curvature = (slope * weights[:, None]).T @ slope + np.diag(self.pulls)
            descent = (slope * weights[:, None]).T @ residual + self.pulls * (at - self.centres)
            while damping < 1e6:
                tried = at - np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), descent)
                if (reached := cost(tried)) < least:
                    break
                damping *= 4
            else:
                return at
            gained, at, least, damping = least - reached, tried, reached, max(damping / 5, 1e-6)
            if gained < 1e-4 * least:
                break
        return at


class Held(NamedTuple):
    """log(predicted / measured) of every row by a fit that did not see it: kept half, and its source left
    out.
    """

    factors: np.ndarray
    half: np.ndarray
    used: np.ndarray
    left_out: np.ndarray


def held(problem: Problem) -> Held:
    """Both ways to keep rows aside."""
    used = np.array([accuracy.fitted(row.plain) for row in problem.rows])
    factors = problem.fit(used)
    sources = np.array([row.plain["source"] for row in problem.rows])
    left_out = np.zeros(len(problem.rows))
    for source in sorted(set(sources)):
        out = sources == source
        left_out[out] = (problem.predict(problem.fit(~out, 10))[0] - problem.measured)[out]
    return Held(factors, problem.predict(factors)[0] - problem.measured, used, left_out)


def spread(errors: np.ndarray) -> list[float]:
    """Quantiles of measured / predicted between which nine tenths lie, stretched to hold the prediction."""
    low, high = np.quantile(-errors, [0.05, 0.95])
    return [round(math.exp(min(0.0, low)), 3), round(math.exp(max(0.0, high)), 3), len(errors)]


def spreads(
    errors: np.ndarray, aside: np.ndarray, phases: np.ndarray, cases: np.ndarray
) -> dict[str, list[float]]:
    """The spread of every phase, and of those of its cases that have rows enough."""
    found = {str(phase): spread(errors[aside & (phases == phase)]) for phase in sorted(set(phases))}
    for each in sorted(set(cases)):
        if (aside & (cases == each)).sum() >= ENOUGH:
            found[str(each)] = spread(errors[aside & (cases == each)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", type=Path)
    parser.add_argument("--write", action="store_true", help=f"write {OUT.name}")
    given = parser.parse_args()
    problem = Problem(read(given.rows)[0])
    result = held(problem)
    phases = np.array([row.phase for row in problem.rows])
    cases = np.array([case(row.phase, several=row.several, unpacks=row.unpacks) for row in problem.rows])
    plain = {
        "about": "fitted by benchmarks/latency_fit.py to half of the rows; see docs/cards/latency.md",
        "factors": {
            name: float(f"{value:.4g}")
            for name, value in sorted(zip(problem.names, np.exp(result.factors), strict=True))
        },
        "seen": spreads(result.half, ~result.used, phases, cases),
        "unseen": spreads(result.left_out, np.ones_like(result.used), phases, cases),
        "known": {
            each: sorted(
                {
                    name
                    for row in problem.rows
                    if row.phase == each
                    for name in (row.framework, row.device.generation.split(" ")[0])
                }
            )
            for each in sorted({row.phase for row in problem.rows})
        },
    }
    text = json.dumps(plain, indent=1) + "\n"
    if given.write:
        OUT.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
