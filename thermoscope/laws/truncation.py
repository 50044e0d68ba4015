r"""Which tokens a sampler keeps, and what that costs. Each law gives the kept set and the mass it removed.

Every law takes the logits of one distribution and a temperature $T$ in $[0, \infty]$; with
$w_i = \exp((z_i - \max z) / T)$ the probabilities are $p_i = w_i / \sum_j w_j$. Ranks come from the logits,
so they stay defined at $T = \infty$, where all probabilities are equal; ties go to the lower id. At least one
token is kept, and a law's neutral value keeps all. None sorts more than it must.

Symbols: `logits` are $z$, in nats, [vocab]. `mass` is $\sum_j w_j$ of the whole distribution, for a caller
who has it; then `logits` may also be only the greatest of it. Where engines end a set differently, `ties`
and `beyond` say how: `Ties` and `nucleus` explain them.

Errors: `InvalidRequest` for a parameter or a temperature out of its range or NaN, and for logits that are no
distribution's (NaN, $+\infty$, nothing but $-\infty$).
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from thermoscope.laws import boltzmann
from thermoscope.laws.ranges import within

# Sums of float64 probabilities miss a round number by a few ulp; a sum this close below p has reached it.
EQUAL = 1e-12

ROWS = 64  # of the table that the logits are laid out in to find the k-th greatest, a number a column

FEW = 512  # ids that are sorted at once
SLICES = 1024  # that more of them are put into first

LEAST = -sys.float_info.max  # of what a logit may be; below it is only -inf, a token that was cut off

Ties = Literal["lower", "all"]
"""Who is kept of tokens that tie at a set's edge: those with the lower ids, or all."""


@dataclass(frozen=True, eq=False)
class Kept:
    """What a law left of a distribution. Order and mass are computed when somebody looks.

    - `members`: the ids that are left, in rising order. `ids`: the same, best first, ties by lower id.
    - `removed`: the probability that was cut off, 0 to 1.
    - `logits`, `temperature`, `mass`: what the law was given; a mass of None is that of `logits`.
    """

    logits: Float[np.ndarray, "vocab"]
    members: Int[np.ndarray, "kept"]
    temperature: float
    mass: float | None

    @cached_property
    def ids(self) -> Int[np.ndarray, "kept"]:
        """Best first."""
        return ranked(self.logits, self.members)

    @cached_property
    def removed(self) -> float:
        """1 − Σ p over what is left."""
        if self.temperature == 0:
            return 0.0 if self.logits.argmax() in self.members else 1.0
        if self.mass is None and len(self.members) == len(self.logits):
            return 0.0
        mass = boltzmann.weights(self.logits, self.temperature).sum() if self.mass is None else self.mass
        left = boltzmann.weights(
            self.logits[self.members], self.temperature, greatest=float(self.logits.max())
        ).sum()
        return max(0.0, 1 - float(left / mass))


def ranked(logits: Float[np.ndarray, "vocab"], members: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
    """Ids in order of falling logit; `members` rise, so a stable sort leaves ties to the lower id."""
    order: Int[np.ndarray, "some"] = members[np.argsort(-logits[members], kind="stable")]
    return order


def top_k(
    logits: Float[np.ndarray, "vocab"],
    k: int,
    temperature: float = 1.0,
    *,
    mass: float | None = None,
    ties: Ties = "lower",
) -> Kept:
    """The k tokens with the greatest logits. k = 0, and k of the vocabulary or more, keep all.

    Source: Fan, Lewis & Dauphin 2018, "Hierarchical Neural Story Generation", section 5.4.
    """
    within("top_k", k, 0, math.inf, whole=True)
    logits = _checked(logits, temperature)
    if not 0 < k < len(logits):
        return Kept(logits, np.arange(len(logits)), temperature, mass)
    candidates = _candidates(logits, k)
    z = logits[candidates]
    edge = np.partition(z, -k)[-k]
    if ties == "all":
        return Kept(logits, candidates[z >= edge], temperature, mass)
    above = z > edge
    members = np.concatenate((candidates[above], candidates[z == edge][: k - np.count_nonzero(above)]))
    members.sort()
    return Kept(logits, members, temperature, mass)


def nucleus(
    logits: Float[np.ndarray, "vocab"],
    p: float,
    temperature: float = 1.0,
    *,
    mass: float | None = None,
    beyond: bool = False,
) -> Kept:
    r"""The smallest set of most probable tokens whose probability is at least p, for p in [0, 1].

    $$V^{(p)} = \text{the smallest set with} \sum_{x \in V^{(p)}} P(x \mid x_{1:i-1}) \ge p$$

    The token that crosses p is kept, and nothing after it; p = 0 keeps one token, p = 1 keeps all.
    `beyond`: the sum must exceed p; it keeps one token more where the sum meets p exactly.
    Where `logits` are the greatest of a larger mass and do not reach p, all of them are kept.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", eq. 2.
    """
    within("top_p", p, 0, 1)
    logits = _checked(logits, temperature)
    if p == 1:
        return Kept(logits, np.arange(len(logits)), temperature, mass)
    best = float(logits.max())
    if mass is None:
        mass = float(boltzmann.weights(logits, temperature).sum())

    weigh = partial(_weights, logits, temperature, best)
    reach = 2.0 * min(max(temperature, 1e-3), 1e3)
    members = _fewest(best - logits, weigh, p * mass, reach, "lower", beyond)
    return Kept(logits, members, temperature, mass)


def min_p(
    logits: Float[np.ndarray, "vocab"],
    fraction: float,
    temperature: float = 1.0,
    *,
    mass: float | None = None,
) -> Kept:
    r"""Tokens at least `fraction` times as probable as the best one, $p_i \ge f \max p$, for f in [0, 1].

    f = 0 keeps all. Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """
    within("min_p", fraction, 0, 1)
    logits = _checked(logits, temperature)
    return Kept(logits, _near_best(logits, fraction, temperature), temperature, mass)


def epsilon(
    logits: Float[np.ndarray, "vocab"], cutoff: float, temperature: float = 1.0, *, mass: float | None = None
) -> Kept:
    r"""Tokens with a probability of at least ε, $p_i \ge \varepsilon$, for ε in [0, 1]; the best one always.

    ε = 0 keeps all.
    Source: Hewitt, Manning & Liang 2022, "Truncation Sampling as Language Model Desmoothing", section 4.1.
    """
    within("epsilon", cutoff, 0, 1)
    logits = _checked(logits, temperature)
    if mass is None:
        mass = float(boltzmann.weights(logits, temperature).sum())
    return Kept(logits, _near_best(logits, cutoff * mass, temperature), temperature, mass)


def eta(logits: Float[np.ndarray, "vocab"], cutoff: float, temperature: float = 1.0) -> Kept:
    r"""Epsilon with a cutoff that falls as the entropy rises, for ε in [0, 1]; the best token always.

    $$p_i \ge \eta = \min\big(\varepsilon, \sqrt{\varepsilon}\, e^{-S}\big), \quad S = -\sum_i p_i \log p_i$$

    ε = 0 keeps all. `logits` are the whole distribution.
    Source: Hewitt, Manning & Liang 2022, "Truncation Sampling as Language Model Desmoothing", section 4.2.
    """
    within("eta", cutoff, 0, 1)
    logits = _checked(logits, temperature)
    exponents, weights = _spread(logits, temperature)
    mass = float(weights.sum())
    entropy = math.log(mass) - float((weights * exponents).sum()) / mass
    cutoff = min(cutoff, math.sqrt(cutoff) * math.exp(-entropy))
    return Kept(logits, _near_best(logits, cutoff * mass, temperature), temperature, mass)


def typical(
    logits: Float[np.ndarray, "vocab"],
    p: float,
    temperature: float = 1.0,
    *,
    ties: Ties = "lower",
    beyond: bool = False,
) -> Kept:
    r"""The fewest tokens with a probability of p together whose surprise is nearest to the entropy.

    Tokens in the order of $|-\log p_i - S|$, until their probability reaches p in [0, 1]; the one that
    crosses is kept. As $-\log p_i - S = \langle x \rangle - x_i$ with $x = (z - \max z) / T$, these are the
    tokens whose energy is nearest to the mean. p = 0 keeps one, p = 1 all. `beyond` as in `nucleus`; `ties`
    are of the distance. `logits` are the whole distribution.

    Source: Meister et al. 2023, "Locally Typical Sampling", section 4, eq. 11.
    """
    within("typical_p", p, 0, 1)
    logits = _checked(logits, temperature)
    if p == 1:
        return Kept(logits, np.arange(len(logits)), temperature, None)
    distance, weights = _spread(logits, temperature)
    mass = float(weights.sum())
    distance -= float((weights * distance).sum()) / mass
    np.abs(distance, out=distance)
    distance[logits < LEAST] = np.inf
    return Kept(
        logits, _fewest(distance, weights.__getitem__, p * mass, 1.0, ties, beyond), temperature, mass
    )


def top_n_sigma(
    logits: Float[np.ndarray, "vocab"], n: float, temperature: float = 1.0, *, mass: float | None = None
) -> Kept:
    r"""Tokens within n standard deviations of the greatest logit: $z_i \ge \max z - n \sigma(z)$, n ≥ 0.

    $\sigma$ is over all tokens with a finite logit, so the set is the same at every temperature. n = 0 keeps
    the best and its ties, n = ∞ all. `logits` are the whole distribution.

    Source: Tang et al. 2024, "Top-nσ: Eliminating Noise in Logit Space for Robust Token Sampling of LLM",
    section 3, algorithm 1.
    """
    within("top_n_sigma", n, 0, math.inf)
    logits = _checked(logits, temperature)
    if math.isinf(n):
        return Kept(logits, np.arange(len(logits)), temperature, mass)
    best = float(logits.max())
    sigma = float(logits.std()) if np.isfinite(logits).all() else float(logits[np.isfinite(logits)].std())
    return Kept(logits, np.flatnonzero(logits >= max(best - n * sigma, LEAST)), temperature, mass)


def xtc(
    logits: Float[np.ndarray, "vocab"],
    threshold: float,
    temperature: float = 1.0,
    *,
    mass: float | None = None,
) -> Kept:
    """Exclude top choices: of the tokens with a probability of at least `threshold`, only the last stays.

    Less probable tokens all stay. A threshold above 1/2 changes nothing: two tokens cannot both reach it.
    Whether it is done at this token is the sampler's coin.

    Source: p-e-w 2024, text-generation-webui, pull request 6335; llama.cpp, `llama_sampler_init_xtc`.
    """
    within("xtc_threshold", threshold, 0, 1)
    logits = _checked(logits, temperature)
    if mass is None:
        mass = float(boltzmann.weights(logits, temperature).sum())
    if threshold * mass * (1 - EQUAL) > 1:  # none reaches it
        return Kept(logits, np.arange(len(logits)), temperature, mass)
    top = _near_best(logits, threshold * mass, temperature)
    least = np.flatnonzero(logits[top] == logits[top].min())[-1]
    return Kept(logits, np.delete(np.arange(len(logits)), np.delete(top, least)), temperature, mass)


def _checked(logits: Float[np.ndarray, "vocab"], temperature: float) -> Float[np.ndarray, "vocab"]:
    boltzmann.check_temperature(temperature)
    return boltzmann.checked(logits)


def _candidates(logits: Float[np.ndarray, "vocab"], k: int) -> Int[np.ndarray, "some"]:
    """Ids, rising, of which none but these can be among the k best."""
    columns = len(logits) // ROWS
    if k > columns:
        return np.arange(len(logits))
    # The greatest of each column are logits, so the k-th greatest of all is no less than theirs.
    heads = logits[: ROWS * columns].reshape(ROWS, columns).max(axis=0)
    return np.flatnonzero(logits >= np.partition(heads, -k)[-k])


def _weights(
    logits: Float[np.ndarray, "vocab"], temperature: float, best: float, ids: Int[np.ndarray, "some"]
) -> Float[np.ndarray, "some"]:
    """Weights of some tokens."""
    if temperature == 0:
        one: Float[np.ndarray, "some"] = (ids == logits.argmax()).astype(np.float64)
        return one
    return boltzmann.weights(logits[ids], temperature, greatest=best)


def _spread(
    logits: Float[np.ndarray, "vocab"], temperature: float
) -> tuple[Float[np.ndarray, "vocab"], Float[np.ndarray, "vocab"]]:
    """x = (z − max z) / T, none below where exp is 0 anyway, and exp(x)."""
    if temperature == 0:  # ties count for the order and not for the mass, which the lowest id has
        exponents = np.where(np.arange(len(logits)) == logits.argmax(), 0.0, boltzmann.FROZEN)
    else:
        exponents = boltzmann.exponents_of(logits, temperature)
        np.maximum(exponents, boltzmann.FROZEN, out=exponents)
    return exponents, np.exp(exponents)


def _near_best(
    logits: Float[np.ndarray, "vocab"], fraction: float, temperature: float
) -> Int[np.ndarray, "some"]:
    """Ids of tokens at least `fraction` times as probable as the best one, and it always."""
    if fraction <= 0:
        return np.arange(len(logits))
    if temperature == 0:
        return np.array([logits.argmax()])
    floor = logits.max() + temperature * math.log(min(fraction, 1.0) * (1 - EQUAL))
    return np.flatnonzero(logits >= max(floor, LEAST))


def _fewest(
    distance: Float[np.ndarray, "vocab"],
    weigh: Callable[[Int[np.ndarray, "some"]], Float[np.ndarray, "some"]],
    goal: float,
    reach: float,
    ties: Ties,
    beyond: bool,
) -> Int[np.ndarray, "kept"]:
    """Ids in the order of their distance until their weight reaches the goal, or goes beyond it.

    `reach`: how far from the nearest to look first; more only where that is not enough.
    """
    goal *= 1 + EQUAL if beyond else 1 - EQUAL
    side: Literal["left", "right"] = "right" if beyond else "left"
    nearest = float(distance.min())
    while True:
        few = len(distance) <= FEW
        ids = np.arange(len(distance)) if few else np.flatnonzero(distance <= nearest + reach)
        weights = weigh(ids)
        if weights.sum() > goal or len(ids) == np.count_nonzero(distance < np.inf):
            break
        reach *= 2
    sure = ids[:0]
    if len(ids) > FEW:  # whole slices of the distance, until one is crossed; only that is sorted
        place = ((distance[ids] - nearest) * (SLICES / reach)).astype(np.int64)
        sums = np.cumsum(np.bincount(place, weights, minlength=SLICES + 1))
        crossed = int(np.searchsorted(sums, goal, side))
        sure, at = ids[place < crossed], place == crossed
        ids, weights = ids[at], weights[at]
        goal -= float(sums[crossed - 1]) if crossed else 0.0
    order = np.argsort(distance[ids], kind="stable")
    ids = ids[order]
    last = int(np.searchsorted(np.cumsum(weights[order]), goal, side))
    if ties == "all" and len(ids):
        return np.flatnonzero(distance <= distance[ids[min(last, len(ids) - 1)]])
    members: Int[np.ndarray, "kept"] = np.concatenate((sure, np.sort(ids[: last + 1])))
    members.sort(kind="stable")  # which merges two runs
    return members
