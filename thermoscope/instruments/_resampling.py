"""How sure the numbers of temperature scaling are: their bootstrap, over the documents."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from thermoscope.instruments.shape.reading import Cell, Column, Reading, Table
from thermoscope.laws import calibration
from thermoscope.laws.bootstrap import LEVEL, RESAMPLES, Watch, grouped, interval, resampled

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

INTERVALS = (
    Column("quantity", "What it is"),
    Column("half", "The documents that it is of"),
    Column("value", "Its value", form=".4f"),
    Column("low", "Lower end of the interval; None where there is none", form=".4f"),
    Column("high", "Upper end", form=".4f"),
)
FEW = 20  # documents whose resamples vary clearly less than other documents would
CLEAR = 2  # times the error by chance from which on the calibration error has an interval


@dataclass(frozen=True)
class Half:
    """Labelled logits of some documents: [tokens, vocab] float32, the ids that followed, and whose they are.

    `documents`: the number of each token's document, from 0; tokens of one are no independent evidence.
    """

    name: str
    logits: Float[np.ndarray, "tokens vocab"]
    labels: Int[np.ndarray, "tokens"]
    documents: Int[np.ndarray, "tokens"]

    @property
    def count(self) -> int:
        """How many documents."""
        return int(self.documents.max()) + 1


@dataclass(frozen=True)
class Judged:
    """What one temperature does to a half: the loss of each token, and its answers."""

    half: Half
    temperature: float
    losses: Float[np.ndarray, "tokens"]
    answers: calibration.Answers

    @property
    def nll(self) -> float:
        """The mean loss."""
        return float(self.losses.mean())

    @property
    def error(self) -> float:
        """The expected calibration error."""
        return calibration.expected_calibration_error(self.answers.table())


class Sure(NamedTuple):
    """A number and its interval, whose ends are None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None


def gained(lab: "Lab", before: Judged, after: Judged) -> Sure:
    """The mean loss at T = 1 less that at T*, token by token, so that what is common to both cancels."""
    with np.errstate(invalid="ignore"):  # ∞ less ∞ has no interval either
        return _mean(lab, before.losses - after.losses, before.half)


def judgement(gain: Sure) -> str:
    """What the gain says of T*."""
    if gain.low is None or gain.high is None:
        return "better" if gain.value > 0 else "no better"
    told = "better" if gain.low > 0 else "worse" if gain.high < 0 else "no different, as far as they tell"
    return f"{told}, by {gain.value:.4f} nats a token [{gain.low:.4f}, {gain.high:.4f}]"


def intervals(lab: "Lab", fitted: Half, before: Judged, after: Judged, gain: Sure) -> Reading:
    """T* and what it does to the half that was held out, each with the middle of its resamples."""
    best, held = after.temperature, before.half.name
    at = f"T = {best:.4g}"
    rows: list[tuple[Cell, ...]] = [
        ("T*", fitted.name, *_best(lab, fitted, best)),
        ("nll at T = 1", held, *_mean(lab, before.losses, before.half)),
        (f"nll at {at}", held, *_mean(lab, after.losses, after.half)),
        ("gain, the first less the second", held, *gain),
        ("ece at T = 1", held, *_error(lab, before)),
        (f"ece at {at}", held, *_error(lab, after)),
    ]
    title = f"The middle {LEVEL:.0%} of {RESAMPLES} resamples of the documents"
    return Reading(
        tables=[Table("intervals", title, INTERVALS, rows)],
        notes=[_documents(fitted, before.half), *_by_chance(before, after)],
    )


def _best(lab: "Lab", half: Half, best: float) -> Sure:
    """No interval of one document, and none at either end, where T* has no standard error to look within."""
    if half.count < 2 or not 0 < best < np.inf:
        return Sure(best)
    again = calibration.refitted(half.logits, half.labels, half.documents, best, watch=_watch(lab))
    return Sure(best, *interval(again))


def _mean(lab: "Lab", losses: Float[np.ndarray, "tokens"], half: Half) -> Sure:
    value = float(losses.mean())
    if half.count < 2 or not np.isfinite(value):
        return Sure(value)
    totals = _totals(lab, losses[:, None], half)
    return Sure(value, *interval(totals[:, 0] / totals[:, 1]))


def _error(lab: "Lab", judged: Judged) -> Sure:
    """As far to the other side of the error as its resamples are from it.

    Their own middle is too high: a resample's error has its own chance on top of the sample's.
    """
    error = judged.error
    if judged.half.count < 2 or error < CLEAR * judged.answers.error_by_chance():
        return Sure(error)
    totals = _totals(lab, judged.answers.gaps(), judged.half)
    low, high = interval(np.abs(totals[:, :-1]).sum(axis=1) / totals[:, -1])
    return Sure(error, max(0.0, 2 * error - high), max(0.0, 2 * error - low))


def _totals(
    lab: "Lab", values: Float[np.ndarray, "tokens parts"], half: Half
) -> Float[np.ndarray, "resamples parts+1"]:
    """The parts' sums in each resample of the documents, and how many tokens it has."""
    sums = grouped(np.column_stack([values, np.ones(len(values))]), half.documents)
    return resampled(sums, watch=_watch(lab))


def _watch(lab: "Lab") -> Watch:
    return lambda: lab.progress("resampling", 0, 1)


def _documents(fitted: Half, held: Half) -> str:
    counts = (fitted.count, held.count)
    drawn = f"Intervals draw whole documents with replacement, of {counts[0]} and of {counts[1]}"
    if min(counts) < 2:
        return f"{drawn}; one alone says nothing of others, and so has none."
    return f"{drawn}; of so few they come out too narrow." if min(counts) < FEW else f"{drawn}."


def _by_chance(before: Judged, after: Judged) -> list[str]:
    """What few tokens make of the calibration error."""
    chances = {each.temperature: each.answers.error_by_chance() for each in (before, after)}
    unclear = [
        f"{each.error:.4f} at T = {each.temperature:.4g}, where a model that is right exactly as often as it "
        f"is sure shows {chances[each.temperature]:.4f} by chance"
        for each in (before, after)
        if each.error < CLEAR * chances[each.temperature]
    ]
    if not unclear:
        return []
    return [
        f"On {len(before.losses)} tokens the calibration error means little: {'; '.join(unclear)}. It has an "
        f"interval from {CLEAR} times that on; more tokens tell (calibrate_tokens)."
    ]
