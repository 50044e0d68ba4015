r"""Which tokens a sampler keeps. Each law gives the kept ids, best first; ties go to the lower id.

All work on logits of the same distribution at a temperature, and sort only as much of it as they must.
Ranks come from the logits, so they stay defined at $T = \infty$, where all probabilities are equal.
"""

import numpy as np
from jaxtyping import Float, Int

from thermoscope.laws import boltzmann

# Sums of float64 probabilities miss a round number by a few ulp; a sum this close below p has reached it.
EQUAL = 1e-12

ROWS = 64  # of the table that `top_k` lays the logits out in, to look at one number a column


def top_k(logits: Float[np.ndarray, "vocab"], k: int) -> Int[np.ndarray, "kept"]:
    """The k tokens with the greatest logits: min(k, vocab) of them, best first."""
    columns = len(logits) // ROWS
    if not 0 < k <= columns:
        return _ranked(logits, np.arange(len(logits)))[:k]
    # The greatest of each column are logits, so the k-th greatest of all is no less than theirs.
    greatest = logits[: ROWS * columns].reshape(ROWS, columns).max(axis=0)
    floor = np.partition(greatest, -k)[-k]
    return _ranked(logits, np.flatnonzero(logits >= floor))[:k]


def nucleus(
    logits: Float[np.ndarray, "vocab"], p: float, temperature: float = 1.0, *, mass: float | None = None
) -> Int[np.ndarray, "kept"]:
    r"""The smallest set of most probable tokens whose probability is at least p.

    $$V^{(p)} = \text{the smallest set with} \sum_{x \in V^{(p)}} P(x \mid x_{1:i-1}) \ge p$$

    The token that crosses p is kept, and nothing after it; p = 0 keeps one token, p = 1 keeps all.

    `mass`: the weight of the whole distribution, where `logits` are only its greatest. All of them are kept
    where they do not reach p.

    Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", eq. 2.
    """
    if p >= 1:
        return _ranked(logits, np.arange(len(logits)))
    weights = boltzmann.weights(logits, temperature)
    goal = p * (weights.sum() if mass is None else mass)
    floor, reach = logits.max(), 2.0 * min(max(temperature, 1e-3), 1e3)
    while True:
        ids = np.flatnonzero(logits >= floor - reach)
        if len(ids) == len(logits) or weights[ids].sum() >= goal:
            break
        reach *= 2
    ids = _ranked(logits, ids)
    reached = np.cumsum(weights[ids]) >= goal * (1 - EQUAL)
    return ids[: int(reached.argmax()) + 1] if reached.any() else ids


def min_p(
    logits: Float[np.ndarray, "vocab"], fraction: float, temperature: float = 1.0
) -> Int[np.ndarray, "kept"]:
    """Tokens at least `fraction` times as probable as the best one; the best one always.

    Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling", section 3.
    """
    ids = np.flatnonzero(boltzmann.weights(logits, temperature) >= fraction * (1 - EQUAL))
    return _ranked(logits, ids)


def _ranked(logits: Float[np.ndarray, "vocab"], ids: Int[np.ndarray, "some"]) -> Int[np.ndarray, "some"]:
    """Ids in order of falling logit; `ids` come in rising order, so a stable sort leaves ties so."""
    ranked: Int[np.ndarray, "some"] = ids[np.argsort(-logits[ids], kind="stable")]
    return ranked
