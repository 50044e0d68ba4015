r"""How sure a number over a sample is: the middle of what it is over resamples of that sample.

Rows that belong together, as the tokens of a document, are drawn together: they are no independent evidence.
A statistic that is a function of sums over the rows is one of sums over the groups, so that a resample costs
no second look at the rows.

Symbols: `sums` $s$, [groups, parts], what each group adds to each part; a resample draws as many groups as
there are, with replacement, and group $g$ comes up $n_g$ times in it, $\sum_g n_g$ = groups.

Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap": chapter 6 (resamples), section 13.3 (the
percentile interval); Field & Welsh 2007, "Bootstrapping clustered data" (the groups).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 1000
LEVEL = 0.95  # of the resamples that an interval holds
BLOCK = 2**20  # counts that are drawn at once, 8 MiB

Watch = Callable[[], object]


def grouped(values: Float[np.ndarray, "rows *parts"], groups: Int[np.ndarray, "rows"]) -> np.ndarray:
    """The sums of each group's rows, [groups, *parts]; `groups`: which one each row is of, from 0."""
    sums = np.zeros((int(groups.max()) + 1, *values.shape[1:]))
    np.add.at(sums, groups, values)
    return sums


def resampled(
    sums: Float[np.ndarray, "groups parts"],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    watch: Watch = lambda: None,
) -> Float[np.ndarray, "resamples parts"]:
    r"""$\sum_g n_g s_g$ of each resample; the same draws for the same seed and number of groups.

    `watch`: called now and then; what it raises ends the work.
    """
    dice, groups = np.random.default_rng(seed), len(sums)
    some = max(1, BLOCK // groups)
    totals = []
    for start in range(0, resamples, some):
        watch()
        drawn = dice.multinomial(groups, [1 / groups] * groups, size=min(some, resamples - start))
        totals.append(drawn @ sums)
    return np.concatenate(totals)


def interval(values: Float[np.ndarray, "resamples"], level: float = LEVEL) -> tuple[float, float]:
    """The ends of the middle `level` of the values, both of them among the values: ∞ is one."""
    tail = round((1 - level) / 2, 12)  # a quantile a rounding above 0.025 would be the next value
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
