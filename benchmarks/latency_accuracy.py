"""Predicted beside measured times, row by row, for planner_accuracy.py; and by fits that left a source
out.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import accuracy
import numpy as np
from latency_fit import Problem, held
from latency_rows import Row, read

from thermoscope.planning.latency import prediction
from thermoscope.planning.latency.efficiency import Efficiency, fitted
from thermoscope.planning.latency.roofline import ceiling

MILLI = 1e3


def cases(path: Path) -> tuple[list[accuracy.Case], dict[str, str]]:
    """Every row that is a latency, predicted with the factors that come with the program."""
    rows, left = read(path)
    return [case(row, predicted(row, fitted())) for row in rows], left


def predicted(row: Row, efficiency: Efficiency) -> float:
    """Seconds of a row."""
    total = 0.0
    for often, works in row.passes:
        taken = prediction.step(works, row.device, row.framework, efficiency)
        alone = sum(part.seconds for part in taken.parts)
        total += often * (taken.seconds if row.whole else alone)
    return total


def case(row: Row, seconds: float) -> accuracy.Case:
    """A row with its prediction in milliseconds."""
    bounds = prediction.band(
        seconds, row.phase, row.device, row.framework, fitted(), several=row.several, unpacks=row.unpacks
    )
    return accuracy.Case(
        row=row.plain,
        groups=_groups(row),
        predicted=MILLI * seconds,
        measured=MILLI * row.seconds,
        band=(MILLI * bounds.low, MILLI * bounds.high),
        reason=_reason(row),
    )


def _groups(row: Row) -> Mapping[str, str]:
    plain = row.plain
    half = "fitted half" if accuracy.fitted(plain) else "other half"
    groups = {
        "phase": row.phase,
        "phase by half": f"{row.phase}, {half}",
        "framework": row.framework,
        "source": plain["source"].removeprefix("github "),
    }
    if row.phase == "decode" and plain["batch"] == "1":
        groups["decode, batch 1"] = f"{'one device' if plain['gpus'] == '1' else 'several devices'}, {half}"
    if row.phase == "component":
        measured = all(ceiling(row.device, work.arithmetic)[1] for _, works in row.passes for work in works)
        kind = row.passes[0][1][0].kind
        groups["component"] = kind
        groups["ceiling"] = f"{'measured' if measured else 'datasheet'}, {half}"
    return groups


def _reason(row: Row) -> str:
    """Where an error of this row is likely to come from."""
    plain = row.plain
    if int(float(plain["gpus"] or 1)) > 1 and row.device.link_bandwidth is None:
        return "devices joined by PCIe, whose sums depend on the program's own collectives"
    if row.phase == "component" and row.seconds < 1e-5:
        return "a kernel of some microseconds, most of it latency"
    if row.phase == "prefill" and plain["weight_quant"] not in ("none", ""):
        return "each program unpacks quantised weights its own way in a prompt"
    if row.framework == "eager":
        return "bound by the processor that launches, which no row describes"
    return "within the class of its framework, implementations differ"


def left_out(path: Path) -> dict[str, Any]:
    """Errors of fits that saw no row of a source, by phase and by source."""
    rows, _ = read(path)
    result = held(Problem(rows))
    found: dict[str, list[float]] = {}
    for row, error in zip(rows, result.left_out, strict=True):
        names = [row.phase, row.plain["source"].removeprefix("github ")]
        if row.phase == "decode" and row.plain["batch"] == "1":
            names.append("decode, batch 1, " + ("one device" if row.plain["gpus"] == "1" else "several"))
        for name in names:
            found.setdefault(name, []).append(math.exp(error) - 1)
    return {
        name: {
            "rows": len(errors),
            "mape": float(np.mean(np.abs(errors))),
            "median": float(np.median(np.abs(errors))),
            "bias": float(np.mean(errors)),
            "coverage": None,
            "oom_rows": 0,
        }
        for name, errors in found.items()
    }
