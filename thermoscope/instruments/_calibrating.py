"""Temperature scaling on a file of labelled tokens: T* is fitted on one half and judged on the other."""

import math
from typing import TYPE_CHECKING

import numpy as np

from thermoscope.errors import InvalidRequest
from thermoscope.instruments._resampling import Half, Judged, gained, intervals, judgement
from thermoscope.instruments.shape.corpus import documents, labelled
from thermoscope.instruments.shape.figure import Figure, axes, bars, line
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table
from thermoscope.laws import calibration

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.source import File

MEMORY = 2**30  # bytes of logits that may be held at once
STEP = 1e-4  # of a finite difference, as a share of T

HALVES = (
    Column("half", "The documents that T* was fitted on, and those that it never saw"),
    Column("tokens", "Labelled tokens", "tokens"),
    Column("temperature", "T", "nats"),
    Column("nll", "Mean −log p of the labels", "nats a token", ".4f"),
    Column("ece", "Expected calibration error, 15 bins of equal width", "probability", ".4f"),
    Column("ece_by_chance", "What it is on as many tokens where confidence is right", "probability", ".4f"),
)
BINS = (
    Column("temperature", "T", "nats"),
    Column("low", "Confidence above this", "probability", ".3f"),
    Column("high", "and at most this", "probability", ".3f"),
    Column("count", "Tokens with such a confidence", "tokens"),
    Column("confidence", "Their mean confidence, max p", "probability", ".4f"),
    Column("accuracy", "How many of them were right", "share", ".4f"),
)


def calibrate(lab: "Lab", file: "File", most: int) -> Reading:
    """T* of one half of the documents, and what it does to the other.

    `most`: labelled tokens in all. **Errors:** `InvalidRequest` for a file with too little to fit and judge.
    """
    fitted, held, cut = _halves(lab, file, most)
    best = calibration.fit(fitted.logits, fitted.labels, watch=lambda: lab.progress("fitting", 0, 1))
    passes = [(half, temperature) for half in (fitted, held) for temperature in (1.0, best)]
    judged = [
        Judged(
            half, temperature, calibration.losses(half.logits, half.labels, temperature),
            calibration.answers(half.logits, half.labels, temperature),
        )
        for half, temperature in lab.track("judging", passes)
    ]  # fmt: skip
    before, after = judged[2:]
    gain = gained(lab, before, after)
    sure = intervals(lab, fitted, before, after, gain)
    bins = {each.temperature: each.answers.table() for each in (before, after)}
    notes = [
        f"Only the first {most} labelled tokens of the file count (calibrate_tokens).",
        "A pair is joined as it stands, but for a space between question and answer where neither has one.",
    ]
    if cut:
        notes.append(f"Documents cut off at the end of the context, {lab.model.context} tokens: {cut}.")
    rows = [
        (
            each.half.name, len(each.half.labels), each.temperature, each.nll, each.error,
            each.answers.error_by_chance(),
        )
        for each in judged
    ]  # fmt: skip
    return Reading(
        findings=[
            f"T* = {best:.4g}, fitted on {len(fitted.labels)} tokens. On {len(held.labels)} others it is "
            f"{judgement(gain)}: {before.nll:.4f} → {after.nll:.4f} nats a token, calibration error "
            f"{before.error:.4f} → {after.error:.4f}."
        ],
        tables=[
            Table("calibration", f"Temperature scaling on {file.name}", HALVES, rows),
            *sure.tables,
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
        checks=_checks(lab, fitted, best),
        notes=[*notes, *sure.notes],
    )


def _halves(lab: "Lab", file: "File", most: int) -> tuple[Half, Half, int]:
    """Documents in turn to one half and the other, until there are tokens enough; and how many were cut."""
    vocab = lab.model.config.vocab
    if most * vocab * 4 > MEMORY:
        raise InvalidRequest(
            f"calibrate_tokens: got {most}, expected at most {MEMORY // (4 * vocab)}, for each has {vocab} "
            f"logits to keep.",
            param="calibrate_tokens",
        )
    lengths: tuple[list[int], list[int]] = ([], [])  # of each half's documents
    # One half grows from the front, the other from the back, until they meet.
    logits, labels = np.empty((most, vocab), np.float32), np.empty(most, np.int64)
    front, back, count, cut = 0, most, 0, 0
    for number, document in enumerate(documents(file)):
        if front == back:
            break
        tokens, first, shortened = labelled(lab, document)
        cut += shortened
        tokens = tokens[: first + back - front]
        wanted = tokens[first:]
        if not wanted:
            continue
        count += 1
        lengths[number % 2].append(len(wanted))
        rows = lab.logits(tokens[:-1], first=first - 1, param="calibrate")
        if number % 2:
            back -= len(wanted)
        at = back if number % 2 else front
        for place, (row, label) in enumerate(zip(rows, wanted, strict=True), start=at):
            logits[place], labels[place] = row, label
        if not number % 2:
            front += len(wanted)
    if front == 0 or back == most:
        raise InvalidRequest(
            f"calibrate: got {count} documents in {file.name} within "
            f"{most} tokens, expected at least two: one to fit on, one to judge by.",
            param="calibrate",
        )
    fitted = Half("fitted", logits[:front], labels[:front], _numbers(lengths[0]))
    held = Half("held out", logits[back:], labels[back:], _numbers(lengths[1])[::-1])
    return fitted, held, cut


def _numbers(lengths: list[int]) -> np.ndarray:
    """Each token's document, where they stand one after another."""
    return np.repeat(np.arange(len(lengths)), lengths)


def _checks(lab: "Lab", half: Half, best: float) -> list[Check]:
    """No temperature near T* does better, which is enough, for the loss is convex in 1/T; and it is level."""
    ends = best == 0 or math.isinf(best)
    beside = [1e-3 if best == 0 else 1e3] if ends else [best * 0.999, best * 1.001]
    near = [] if ends else [best * (1 - STEP), best * (1 + STEP)]
    at, *others = [
        calibration.nll(half.logits, half.labels, each)
        for each in lab.track("checking", [best, *beside, *near])
    ]
    gain = max(0.0, at - min(others[: len(beside)]))
    checks = [Check("T* is the best", "loss there, less that at T* ± 0.1%", gain, 1e-12)]
    if not ends:
        below, above = others[len(beside) :]
        slope = abs(above - below) / (2 * STEP)
        how = "central difference of the mean loss by log T, T dL/dT"
        checks.append(Check("the loss is level at T*", how, slope, 1e-6))
    return checks


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
