r"""Temperature scaling: the one temperature at which a model is as sure as it is right, on labelled logits.

$$T^* = \arg\min_T \frac1N \sum_n -\log p_T(y_n \mid x_n)$$

In $\beta = 1/T$ the mean loss is convex. Its slope is the mean of $\langle z \rangle_\beta - z_y$, what the
model's average has over the data's, and its curvature the mean of $\mathrm{Var}_\beta\, z = C T^2$. Both ends
are possible answers: $T^* \to 0$ where every label has a greatest logit of its row, and $T^* = \infty$ where
the labels' logits are on average no greater than all others'.

Symbols: `logits` $z$, [rows, vocab], in nats, of any float type, $-\infty$ where a token was cut off;
`labels` $y$, [rows], the right token's id. The logits are looked at some rows at a time, so that they may be
a mapped file, and little memory is needed beside them.

Errors: `InvalidRequest` for what `boltzmann` and `loss` refuse, for logits that are not rows, and in `fit`
for a label that was cut off, which costs ∞ at every temperature.

Source: Guo, Pleiss, Sun & Weinberger 2017, "On Calibration of Modern Neural Networks": section 4.2 (the
temperature); section 2 and eq. 3 (the bins and the error).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann
from thermoscope.laws.loss import checked_labels

BLOCK = 2**16  # logits looked at together, or one row: 512 KiB, so that a core's cache holds a few such
CLOSE = 1e-7  # a step of Newton's as small as this, relative to beta, leaves about its square


def nll(
    logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"], temperature: float = 1.0
) -> float:
    """The mean of `loss` over the rows, in nats, and at T = 0 its limit.

    There a label that shares the greatest logit of its row with others costs the log of how many they are;
    any other costs ∞.
    """
    boltzmann.check_temperature(temperature)
    losses = []
    for z, y in _blocks(logits, labels):
        exponents = boltzmann.exponents_of(z, temperature)
        right = np.take_along_axis(exponents, y[:, None], axis=-1)[:, 0]
        losses.append(boltzmann.weigh(exponents)[1] - right)
    return float(np.concatenate(losses).mean())


def fit(logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"]) -> float:
    """T*, which minimises `nll`: in [0, ∞], both ends included, and 1 where the loss does not move.

    Newton's method in beta, and halving or doubling wherever its step leaves what is known to hold beta*.
    """
    slope, curvature = _slope(logits, labels, 1.0)
    if slope <= 0 and _slope(logits, labels, 0.0)[0] <= 0:
        return 1.0 if _slope(logits, labels, math.inf)[0] == 0 else 0.0
    if slope > 0 and _slope(logits, labels, math.inf)[0] >= 0:
        return math.inf
    beta, low, high = 1.0, 0.0, math.inf
    while slope != 0:
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curvature if curvature > 0 else math.nan
        if not low < step < high:
            step = 2 * beta if math.isinf(high) else (low + high) / 2
        if abs(step - beta) <= CLOSE * beta:
            return 1 / step
        beta = step
        slope, curvature = _slope(logits, labels, 1 / beta)
    return 1 / beta


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence max p lies in (low, high]: how many, and how often they are right.

    `confidence`: the mean of max p. `accuracy`: the share of rows whose greatest logit is the label's.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(
    logits: Float[np.ndarray, "rows vocab"],
    labels: Int[np.ndarray, "rows"],
    temperature: float = 1.0,
    *,
    bins: int = 15,
) -> list[Bin]:
    """The reliability table at a temperature: of `bins` equally wide bins those with an answer in them."""
    if bins < 1:
        raise InvalidRequest(f"bins: got {bins}, expected a whole number, 1 or more.", param="bins")
    confidences, hits = [], []
    for z, y in _blocks(logits, labels):
        confidences.append(boltzmann.probabilities(z, temperature).max(axis=-1))
        hits.append(z.argmax(axis=-1) == y)
    confidence, right = np.concatenate(confidences), np.concatenate(hits)
    highs = np.arange(1, bins + 1) / bins
    which = np.searchsorted(highs, np.minimum(confidence, 1.0))
    table = []
    for i in np.unique(which).tolist():
        inside = which == i
        mean, accuracy = float(confidence[inside].mean()), float(right[inside].mean())
        table.append(Bin(i / bins, float(highs[i]), int(inside.sum()), mean, accuracy))
    return table


def expected_calibration_error(table: list[Bin]) -> float:
    r"""$\mathrm{ECE} = \sum_m \frac{|B_m|}{N} |\mathrm{acc}(B_m) - \mathrm{conf}(B_m)|$, in [0, 1]."""
    total = sum(each.count for each in table)
    return sum(each.count / total * abs(each.accuracy - each.confidence) for each in table)


def _slope(
    logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"], temperature: float
) -> tuple[float, float]:
    """The first and second derivative of the summed loss by beta = 1 / T; the second is 0 at both ends."""
    slopes, curvatures = [], []
    for z, y in _blocks(logits, labels):
        gaps = z - z.max(axis=-1, keepdims=True)  # small differences stay exact in this gauge
        state = boltzmann.thermodynamics(gaps, temperature)
        right = np.take_along_axis(gaps, y[:, None], axis=-1)[:, 0]
        if np.isneginf(right).any():
            raise InvalidRequest(
                "labels: got one whose logit is -inf, expected tokens that are possible; leave it out.",
                param="labels",
            )
        slopes.append(-state.energy - right)
        curvatures.append(state.heat_capacity)
    curvature = (
        math.fsum(np.concatenate(curvatures)) * temperature * temperature
        if math.isfinite(temperature)
        else 0.0
    )
    return math.fsum(np.concatenate(slopes)), curvature


def _blocks(
    logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"]
) -> Iterator[tuple[Float[np.ndarray, "some vocab"], Int[np.ndarray, "some"]]]:
    """A few rows at a time, in float64, with their labels."""
    if logits.ndim != 2 or 0 in logits.shape:
        raise InvalidRequest(
            f"logits: got shape {logits.shape}, expected rows of logits, one for each label.", param="logits"
        )
    ids = checked_labels(labels, logits.shape)
    rows = max(1, BLOCK // logits.shape[1])
    for start in range(0, len(logits), rows):
        some = slice(start, start + rows)
        yield boltzmann.checked(logits[some]), ids[some]
