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
from jaxtyping import Bool, Float, Int

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann
from thermoscope.laws.bootstrap import RESAMPLES, Watch, grouped, resampled
from thermoscope.laws.loss import checked_labels

BLOCK = 2**16  # logits looked at together, or one row: 512 KiB, so that a core's cache holds a few such
BINS = 15  # Guo's
STANDARD = (-4, -2, 0, 2, 4)  # standard errors off beta* at which `refitted` looks
CLOSE = 1e-7  # a step of Newton's as small as this, relative to beta, leaves about its square


def nll(
    logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"], temperature: float = 1.0
) -> float:
    """The mean of `losses`, in nats."""
    return float(losses(logits, labels, temperature).mean())


def losses(
    logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"], temperature: float = 1.0
) -> Float[np.ndarray, "rows"]:
    """The `loss` of each row, in nats, and at T = 0 its limit.

    There a label that shares the greatest logit of its row with others costs the log of how many they are;
    any other costs ∞.
    """
    boltzmann.check_temperature(temperature)
    found = []
    for z, y in _blocks(logits, labels):
        exponents = boltzmann.exponents_of(z, temperature)
        right = np.take_along_axis(exponents, y[:, None], axis=-1)[:, 0]
        found.append(boltzmann.weigh(exponents)[1] - right)
    return np.concatenate(found)


def fit(
    logits: Float[np.ndarray, "rows vocab"],
    labels: Int[np.ndarray, "rows"],
    *,
    watch: Watch = lambda: None,
) -> float:
    """T*, which minimises `nll`: in [0, ∞], both ends included, and 1 where the loss does not move.

    Newton's method in beta, and halving or doubling wherever its step leaves what is known to hold beta*.
    `watch`: called before each pass over the logits; what it raises ends the fit.
    """

    def derivatives(temperature: float) -> tuple[float, float]:
        watch()
        slopes, curvatures = _slopes(logits, labels, temperature)
        return math.fsum(slopes), math.fsum(curvatures)

    slope, curvature = derivatives(1.0)
    if slope <= 0 and derivatives(0.0)[0] <= 0:
        return 1.0 if derivatives(math.inf)[0] == 0 else 0.0
    if slope > 0 and derivatives(math.inf)[0] >= 0:
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
        slope, curvature = derivatives(1 / beta)
    return 1 / beta


def refitted(
    logits: Float[np.ndarray, "rows vocab"],
    labels: Int[np.ndarray, "rows"],
    groups: Int[np.ndarray, "rows"],
    best: float,
    *,
    seed: int = 0,
    watch: Watch = lambda: None,
) -> Float[np.ndarray, "resamples"]:
    r"""T* of each resample of the groups, without another pass for each.

    The slope of the loss is a sum over the rows, looked at where beta is `STANDARD` standard errors off
    $\beta^*$, in $\log\beta$, which are those of the groups' slopes over the curvature. Between two of
    these beta is the cubic of the slope that has both ends' values and curvatures; beyond the last, a chord
    to beta = 0 or a tangent, unless the slope at the end says that T* is ∞ or 0.

    `groups`: which group each row is of, from 0. `best`: T*, in (0, ∞). `seed`, `watch`: as in `bootstrap`
    and `fit`.
    """

    def derivatives(temperature: float) -> list[np.ndarray]:
        watch()
        return [grouped(each, groups) for each in _slopes(logits, labels, temperature)]

    middle = derivatives(best)
    curvature = math.fsum(middle[1])
    if curvature == 0:  # no row's loss moves
        return np.full(RESAMPLES, best)
    error = math.sqrt(math.fsum(middle[0] ** 2)) / curvature * best
    away = [math.exp(min(error, 1.0) * each) for each in STANDARD]
    looked = [middle if factor == 1 else derivatives(best / factor) for factor in away]
    ends = [derivatives(temperature)[0] for temperature in (math.inf, 0.0)]
    sums = np.stack([*(each[0] for each in looked), *(each[1] for each in looked), *ends], axis=1)
    totals, count = resampled(sums, seed=seed, watch=watch), len(away)
    slopes, curvatures, (least, most) = totals[:, :count], totals[:, count:-2], totals[:, -2:].T
    betas, rows = np.array(away) / best, np.arange(len(totals))
    after = (slopes < 0).sum(axis=1)
    inside = (after > 0) & (after < count)
    right = np.clip(after, 1, count - 1)
    left = right - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        between = _inverse(
            *(slopes[rows, left], slopes[rows, right]),
            *(betas[left], betas[right], curvatures[rows, left], curvatures[rows, right]),
        )
        chord = np.where(least >= 0, 0.0, betas[0] * least / (least - slopes[:, 0]))
        tangent = np.where(most <= 0, math.inf, betas[-1] - slopes[:, -1] / curvatures[:, -1])
        temperatures: Float[np.ndarray, "resamples"] = 1 / np.where(
            inside, between, np.where(after == 0, chord, tangent)
        )
    return temperatures


def _inverse(
    low: np.ndarray,
    high: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    rise: np.ndarray,
    rises: np.ndarray,
) -> np.ndarray:
    """Where a rising function is 0 that is `low` < 0 at `left`, with slope `rise`, and `high` at `right`."""
    step = high - low
    at = -low / step
    first, last = step / rise, step / rises
    cubic = (
        left
        + at * first
        + at**2 * (3 * (right - left) - 2 * first - last)
        + at**3 * (first + last - 2 * (right - left))
    )
    chord = left + at * (right - left)
    found: np.ndarray = np.where((cubic >= left) & (cubic <= right), cubic, chord)
    return found


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
    bins: int = BINS,
) -> list[Bin]:
    """The reliability table at a temperature: of `bins` equally wide bins those with an answer in them."""
    return answers(logits, labels, temperature).table(bins)


@dataclass(frozen=True)
class Answers:
    """How sure the model is of each row's answer, max p, and whether it is the label's; both [rows]."""

    confidence: Float[np.ndarray, "rows"]
    right: Bool[np.ndarray, "rows"]

    def bins(self, count: int = BINS) -> Int[np.ndarray, "rows"]:
        """Which of equally wide bins each confidence is in, from 0; one on a border is in the lower."""
        if count < 1:
            raise InvalidRequest(f"bins: got {count}, expected a whole number, 1 or more.", param="bins")
        highs = np.arange(1, count + 1) / count
        which: Int[np.ndarray, "rows"] = np.searchsorted(highs, np.minimum(self.confidence, 1.0))
        return which

    def table(self, count: int = BINS) -> list[Bin]:
        """`reliability` of these answers."""
        which, table = self.bins(count), []
        for i in np.unique(which).tolist():
            inside = which == i
            mean, accuracy = float(self.confidence[inside].mean()), float(self.right[inside].mean())
            table.append(Bin(i / count, (i + 1) / count, int(inside.sum()), mean, accuracy))
        return table

    def gaps(self, count: int = BINS) -> Float[np.ndarray, "rows bins"]:
        """What each row adds to its bin: 1 if it is right, less its confidence."""
        gaps = np.zeros((len(self.right), count))
        gaps[np.arange(len(gaps)), self.bins(count)] = self.right - self.confidence
        return gaps

    def error_by_chance(self, count: int = BINS) -> float:
        r"""The error that a model shows on as many rows though it is right as often as it is sure.

        $\frac1N \sum_m \sqrt{\tfrac2\pi \sum_{n \in B_m} c_n (1 - c_n)}$, the mean of a normal's absolute
        value for each bin; c are the confidences.
        """
        variances = np.bincount(self.bins(count), self.confidence * (1 - self.confidence))
        return float(np.sqrt(2 / np.pi * variances.clip(min=0)).sum()) / len(self.confidence)


def answers(
    logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"], temperature: float = 1.0
) -> Answers:
    """What the model would answer, were it to take the greatest logit of each row."""
    confidences, hits = [], []
    for z, y in _blocks(logits, labels):
        confidences.append(boltzmann.probabilities(z, temperature).max(axis=-1))
        hits.append(z.argmax(axis=-1) == y)
    return Answers(np.concatenate(confidences), np.concatenate(hits))


def expected_calibration_error(table: list[Bin]) -> float:
    r"""$\mathrm{ECE} = \sum_m \frac{|B_m|}{N} |\mathrm{acc}(B_m) - \mathrm{conf}(B_m)|$, in [0, 1]."""
    total = sum(each.count for each in table)
    return sum(each.count / total * abs(each.accuracy - each.confidence) for each in table)


def _slopes(
    logits: Float[np.ndarray, "rows vocab"], labels: Int[np.ndarray, "rows"], temperature: float
) -> tuple[Float[np.ndarray, "rows"], Float[np.ndarray, "rows"]]:
    """The first and second derivative of each row's loss by beta = 1 / T; the second is 0 at both ends."""
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
    square = temperature * temperature if math.isfinite(temperature) else 0.0
    return np.concatenate(slopes), np.concatenate(curvatures) * square


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
