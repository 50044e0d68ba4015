"""How sure a number over passages is: 95% intervals (Efron & Tibshirani 1993, chapters 11 and 13)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 1000
LEVEL = 0.95
NORMAL = 1.959964  # standard deviations on either side that hold this share of a normal distribution

Drawn = Int[np.ndarray, "drawn"]


def resampled(
    statistic: Callable[[Drawn], Any], passages: int, *, resamples: int = RESAMPLES
) -> Float[np.ndarray, "resamples *shape"]:
    """The bootstrap: the statistic of passages drawn with replacement, the same draws every time.

    `statistic`: from the indices of the passages to a number, or an array of them.
    """
    dice = np.random.default_rng(0)
    return np.array([statistic(dice.integers(passages, size=passages)) for _ in range(resamples)])


def interval(values: Float[np.ndarray, "resamples *shape"]) -> tuple[Any, Any]:
    """The middle `LEVEL` of resampled values: lower and upper end."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def jackknife(statistic: Callable[[Drawn], float], passages: int) -> tuple[float, float]:
    """The statistic ± `NORMAL` of its jackknife's standard errors: it without each passage in turn.

    For what drawing with replacement shifts: a passage drawn twice makes none of its words rare.
    """
    every = np.arange(passages)
    without = np.array([statistic(np.delete(every, number)) for number in every])
    half = NORMAL * float(np.sqrt((passages - 1) * without.var()))
    value = statistic(every)
    return value - half, value + half
