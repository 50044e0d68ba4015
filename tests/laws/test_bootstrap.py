import math

import numpy as np
import pytest

from thermoscope.laws import bootstrap
from thermoscope.laws.bootstrap import grouped, interval, resampled


def test_groups_are_summed_as_a_loop_sums_them():
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=(50, 3)), rng.integers(7, size=50)
    groups[:7] = range(7)
    sums = grouped(values, groups)
    for group in range(7):
        for part in range(3):
            exact = math.fsum(
                value for value, each in zip(values[:, part], groups, strict=True) if each == group
            )
            assert sums[group, part] == pytest.approx(exact, abs=1e-14)


def test_a_resample_has_as_many_groups_as_the_sample_and_each_as_likely():
    groups, resamples = 6, 20_000
    counts = resampled(np.eye(groups), resamples=resamples)
    assert (counts.sum(axis=1) == groups).all()
    # Binomial(6, 1/6) each: mean 1, variance 5/6; covariance -1/6. Four sigma of 21 estimates: p = 0.0013.
    assert counts.mean(axis=0) == pytest.approx(1, abs=4 * math.sqrt(5 / 6 / resamples))
    assert np.cov(counts.T) == pytest.approx(np.eye(groups) - 1 / groups, abs=0.05)


def test_the_same_seed_has_the_same_draws_whatever_is_summed_and_however_much_at_once(monkeypatch):
    sums = np.random.default_rng(1).normal(size=(9, 2))
    whole = resampled(sums, resamples=100, seed=5)
    assert resampled(sums[:, :1], resamples=100, seed=5) == pytest.approx(whole[:, :1])
    assert not np.array_equal(resampled(sums, resamples=100, seed=6), whole)
    monkeypatch.setattr(bootstrap, "BLOCK", 70)
    assert resampled(sums, resamples=100, seed=5) == pytest.approx(whole)


def test_what_watches_is_asked_between_blocks_and_can_end_it(monkeypatch):
    monkeypatch.setattr(bootstrap, "BLOCK", 30)
    asked = []

    def watch():
        asked.append(None)
        if len(asked) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resampled(np.ones((10, 1)), resamples=100, watch=watch)
    assert len(asked) == 3


def test_the_interval_is_of_values_that_are_there():
    assert interval(np.arange(1, 1001.0)) == (25, 975)
    assert interval(np.array([1.0, 2.0, math.inf])) == (1, math.inf)
    assert interval(np.arange(1, 101.0), level=0.5) == (25, 75)


def test_95_of_100_intervals_of_a_mean_hold_it_where_groups_are_what_is_drawn():
    """40 groups of 25 rows that share most of their noise; 300 trials: 4 sigma of 0.95 are 0.05.

    Percentile intervals of 40 groups are a little narrow (0.94), and of single rows far too narrow.
    """
    rng, held = np.random.default_rng(2), {"groups": 0, "rows": 0}
    for _ in range(300):
        rows = rng.normal(size=(40, 1)) + 0.3 * rng.normal(size=(40, 25))
        for how, sums in (("groups", rows.sum(axis=1, keepdims=True)), ("rows", rows.reshape(-1, 1))):
            low, high = interval(resampled(sums, resamples=400)[:, 0])
            held[how] += low <= 0 <= high
    assert 0.89 <= held["groups"] / 300 <= 0.99
    assert held["rows"] / 300 < 0.5
