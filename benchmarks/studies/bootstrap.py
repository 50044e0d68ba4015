"""How sure a number over passages is: bootstrap intervals (Efron & Tibshirani 1993, chapter 13)."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 1000
LEVEL = 0.95


def resampled(
    statistic: Callable[[Int[np.ndarray, "passages"]], Any], passages: int, *, resamples: int = RESAMPLES
) -> Float[np.ndarray, "resamples *shape"]:
    """The statistic of passages drawn with replacement, `resamples` times; the same draws on every call.

    `statistic`: from the indices of the passages to a number, or an array of them.
    """
    dice = np.random.default_rng(0)
    return np.array([statistic(dice.integers(passages, size=passages)) for _ in range(resamples)])


def interval(values: Float[np.ndarray, "resamples *shape"]) -> tuple[Any, Any]:
    """The middle `LEVEL` of resampled values: lower and upper end."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def centred(
    values: Float[np.ndarray, "resamples *shape"], value: Float[Any, "*shape"]
) -> Float[np.ndarray, "resamples *shape"]:
    """Resampled values moved so that their mean is the statistic's own value, their spread as it was.

    For a statistic that drawing with replacement shifts: a passage drawn twice makes no word rarer.
    """
    return values - values.mean(axis=0) + value
