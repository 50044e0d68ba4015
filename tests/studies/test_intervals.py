"""Intervals against every resample there is, the normal law, and texts drawn anew."""

import itertools

import numpy as np
import pytest

from benchmarks.studies.intervals import interval, jackknife, resampled
from benchmarks.studies.metrics import zipf


def test_resamples_are_as_frequent_as_counting_all_of_them_says():
    values = np.array([0.0, 1.0, 10.0])
    means = resampled(lambda drawn: values[drawn].mean(), 3, resamples=20_000)
    all_means = [np.mean(each) for each in itertools.product(values, repeat=3)]
    for mean in set(all_means):
        expected = sum(np.isclose(mean, all_means)) / 27
        share = np.isclose(means, mean).mean()
        assert share == pytest.approx(expected, abs=5 * np.sqrt(expected * (1 - expected) / 20_000))


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(1).exponential(size=1000)
    low, high = interval(resampled(lambda drawn: values[drawn].mean(), 1000))
    half = 1.96 * values.std(ddof=1) / np.sqrt(1000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_several_numbers_at_once_and_the_same_again():
    values = np.arange(40.0)

    def both(drawn):
        return values[drawn].mean(), values[drawn].max()

    first, second = resampled(both, 40), resampled(both, 40)
    assert np.array_equal(first, second)
    assert [len(end) for end in interval(first)] == [2, 2]


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(3).exponential(size=50)
    low, high = jackknife(lambda drawn: values[drawn].mean(), 50)
    half = 1.959964 * values.std(ddof=1) / np.sqrt(50)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-9)


def test_zipfs_interval_is_as_wide_as_texts_written_anew_differ():
    dice = np.random.default_rng(2)
    law = np.arange(1, 3001) ** -1.0
    law /= law.sum()

    def text():  # passages of 50 tokens, as counts
        return dice.multinomial(50, law, size=60)

    written = [zipf(text().sum(axis=0)) for _ in range(300)]
    counts = text()

    def statistic(drawn):
        return zipf(counts[drawn].sum(axis=0))

    low, high = jackknife(statistic, 60)
    assert 0.8 < (high - low) / (2 * 1.96 * np.std(written)) < 1.5
    # Why it is no bootstrap: that one's resamples lie far above the value itself.
    assert interval(resampled(statistic, 60))[0] > statistic(np.arange(60))
