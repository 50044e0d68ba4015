"""Temperature scaling on a file of labelled tokens: T* is fitted on one half and judged on the other."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.corpus import documents, labelled
from thermoscope.instruments.shape.figure import Figure, axes, bars, line
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table
from thermoscope.laws import calibration

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.source import File

MEMORY = 2**30  # bytes of logits that may be held at once

HALVES = (
    Column("half", "The documents that T* was fitted on, and those that it never saw"),
    Column("tokens", "Labelled tokens", "tokens"),
    Column("temperature", "T", "nats"),
    Column("nll", "Mean −log p of the labels", "nats a token", ".4f"),
    Column("ece", "Expected calibration error, 15 bins of equal width", "probability", ".4f"),
)
BINS = (
    Column("temperature", "T", "nats"),
    Column("low", "Confidence above this", "probability", ".3f"),
    Column("high", "and at most this", "probability", ".3f"),
    Column("count", "Tokens with such a confidence", "tokens"),
    Column("confidence", "Their mean confidence, max p", "probability", ".4f"),
    Column("accuracy", "How many of them were right", "share", ".4f"),
)


@dataclass(frozen=True)
class _Half:
    """Labelled logits: [tokens, vocab] float32, and the ids that followed."""

    name: str
    logits: np.ndarray
    labels: np.ndarray

    def nll(self, temperature: float) -> float:
        return calibration.nll(self.logits, self.labels, temperature)

    def row(self, temperature: float) -> tuple[str, int, float, float, float]:
        ece = calibration.expected_calibration_error(self.bins(temperature))
        return self.name, len(self.labels), temperature, self.nll(temperature), ece

    def bins(self, temperature: float) -> list[calibration.Bin]:
        return calibration.reliability(self.logits, self.labels, temperature)


def calibrate(lab: "Lab", file: "File", most: int) -> Reading:
    """T* of one half of the documents, and what it does to the other.

    `most`: labelled tokens in all. **Errors:** `InvalidRequest` for a file with too little to fit and judge.
    """
    fitted, held = _halves(lab, file, most)
    best = calibration.fit(fitted.logits, fitted.labels)
    rows = [half.row(temperature) for half in (fitted, held) for temperature in (1.0, best)]
    before, after = rows[2], rows[3]
    bins = {temperature: held.bins(temperature) for temperature in (1.0, best)}
    judged = "better" if after[3] < before[3] else "no better"
    return Reading(
        findings=[
            f"T* = {best:.4g}, fitted on {len(fitted.labels)} tokens. On {len(held.labels)} others it is "
            f"{judged}: {before[3]:.4f} → {after[3]:.4f} nats a token, calibration error {before[4]:.4f} → "
            f"{after[4]:.4f}."
        ],
        tables=[
            Table("calibration", f"Temperature scaling on {file.name}", HALVES, rows),
            Table(
                "reliability",
                "Confidence and accuracy on the half that was held out",
                BINS,
                [
                    (temperature, each.low, each.high, each.count, each.confidence, each.accuracy)
                    for temperature, table in bins.items()
                    for each in table
                ],
                detail=True,
            ),
        ],
        figures=[_reliability(bins)],
        checks=[_least(fitted, best), *_balance(fitted, best)],
        notes=[f"Only the first {most} labelled tokens of the file count (calibrate_tokens)."],
    )


def _halves(lab: "Lab", file: "File", most: int) -> tuple[_Half, _Half]:
    """Documents in turn to one half and the other, until there are tokens enough."""
    vocab = lab.model.config.vocab
    if most * vocab * 4 > MEMORY:
        raise InvalidRequest(
            f"calibrate_tokens: got {most}, expected at most {MEMORY // (4 * vocab)}, for each has {vocab} "
            f"logits to keep.",
            param="calibrate_tokens",
        )
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    labels: tuple[list[int], list[int]] = ([], [])
    left = most
    for number, document in enumerate(documents(file)):
        if left <= 0:
            break
        tokens, first = labelled(lab, document)
        tokens = tokens[: first + left]
        wanted = tokens[first:]
        if not wanted:
            continue
        logits = list(lab.logits(tokens[:-1], first=first - 1, param="calibrate"))
        rows[number % 2].append(np.stack(logits))
        labels[number % 2].extend(wanted)
        left -= len(wanted)
    if not rows[0] or not rows[1]:
        raise InvalidRequest(
            f"calibrate: got {len(rows[0]) + len(rows[1])} documents in {file.name} within "
            f"{most} tokens, expected at least two: one to fit on, one to judge by.",
            param="calibrate",
        )
    fitted, held = (
        _Half(name, np.concatenate(some), np.array(ids))
        for name, some, ids in zip(("fitted", "held out"), rows, labels, strict=True)
    )
    return fitted, held


def _least(half: _Half, best: float) -> Check:
    """No temperature near T* does better: convexity makes a local best the best of all."""
    if best == 0 or math.isinf(best):
        neighbours = [1e-3 if best == 0 else 1e3]
    else:
        neighbours = [best * 0.999, best * 1.001]
    gain = half.nll(best) - min(map(half.nll, neighbours))
    return Check("T* is the best", "loss there, less that at T* ± 0.1%", max(0.0, gain), 1e-12)


def _balance(half: _Half, best: float) -> list[Check]:
    """The loss is level at T*, unless that is an end of the range."""
    if best == 0 or math.isinf(best):
        return []
    step = 1e-4 * best
    slope = (half.nll(best + step) - half.nll(best - step)) / (2 * step)
    return [Check("the loss is level at T*", "central difference of the mean loss", abs(slope), 1e-5)]


def _reliability(bins: dict[float, list[calibration.Bin]]) -> Figure:
    traces = [
        bars(
            [each.confidence for each in table],
            [each.accuracy for each in table],
            f"T = {temperature:.3g}",
            width=[0.025] * len(table),
            customdata=[each.count for each in table],
            hovertemplate="confidence %{x:.3f}, right %{y:.3f}, %{customdata} tokens",
        )
        for temperature, table in bins.items()
    ]
    traces.append(line([0, 1], [0, 1], "as confident as right", line={"dash": "dot", "color": "#64748b"}))
    return Figure(
        "reliability",
        "Is the model as often right as it is sure?",
        traces,
        axes("confidence, max p", "share that was right", barmode="overlay"),
    )
