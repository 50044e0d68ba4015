"""Bounds from the most probable tokens, against whole distributions that they were taken from."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann, truncation
from thermoscope.laws.partial import Partial

repeatable = settings(derandomize=True, deadline=None, max_examples=80)
LOGITS = arrays(np.float64, st.integers(1, 40), elements=st.integers(-768, 768).map(lambda z: z / 64))
TEMPERATURES = st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 1.1, 2.0, 10.0, math.inf])
SLACK = 1e-9


def holds(bounds, value):
    return bounds.low - SLACK * max(1, abs(value)) <= value <= bounds.high + SLACK * max(1, abs(value))


def best(z, known):
    return -np.sort(-boltzmann.log_probabilities(z))[:known]


@repeatable
@given(LOGITS, st.data(), TEMPERATURES, st.booleans(), st.floats(0, 1))
def test_every_bound_holds_the_truth(z, data, temperature, counted, p):
    known = data.draw(st.integers(1, len(z)))
    partial = Partial(best(z, known), len(z) if counted else None, rounding=1e-9)
    seen = partial.at(temperature)
    order = np.argsort(-z, kind="stable")
    weights = np.exp(boltzmann.exponents_of(z, temperature))
    truth = weights / weights.sum()  # ties share at T = 0
    assert holds(partial.unseen, math.fsum(np.exp(boltzmann.log_probabilities(z))[order[known:]]))
    assert holds(seen.z, weights.sum())
    assert holds(seen.unseen, truth[order[known:]].sum())
    assert holds(seen.entropy, float(boltzmann.thermodynamics(z, temperature).entropy))
    low, high = seen.probabilities()
    assert (low <= truth[order[:known]] + SLACK).all()
    assert (truth[order[:known]] <= high + SLACK).all()
    if temperature:
        for token in (order[0], order[-1]):
            log_p = boltzmann.log_probabilities(z)[token]
            assert holds(seen.log_probability(log_p), math.log(truth[token]))
    size = len(truncation.nucleus(z, p, temperature).ids)
    assert seen.nucleus(p).low <= size <= seen.nucleus(p).high


@repeatable
@given(LOGITS, TEMPERATURES.filter(bool))
def test_all_tokens_known_are_values(z, temperature):
    seen = Partial(best(z, len(z)), len(z)).at(temperature)
    exact = float(boltzmann.thermodynamics(z, temperature).entropy)
    assert seen.entropy.low == pytest.approx(exact, abs=1e-9)
    assert seen.entropy.high == pytest.approx(exact, abs=1e-9)
    assert seen.unseen == (0, 0)


@repeatable
@given(LOGITS, st.data(), TEMPERATURES, st.booleans())
def test_one_more_token_never_widens(z, data, temperature, counted):
    known = data.draw(st.integers(1, max(1, len(z) - 1)))
    less, more = (
        Partial(best(z, each), len(z) if counted else None, rounding=1e-12).at(temperature)
        for each in (known, min(len(z), known + 1))
    )
    for wide, tight in ((less.z, more.z), (less.entropy, more.entropy)):
        assert wide.low <= tight.low + 1e-7
        assert wide.high >= tight.high - 1e-7
    assert less.nucleus(0.9).low <= more.nucleus(0.9).low
    assert less.nucleus(0.9).high >= more.nucleus(0.9).high


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_both_ends_are_distributions_that_there_are(temperature):
    """p = 0.4, 0.2 are known of 8 tokens; 0.4 may lie on two tokens of 0.2, or on six alike."""
    seen = Partial(np.log([0.4, 0.2]), 8, rounding=0).at(temperature)
    few, even = np.log([0.4, 0.2, 0.2, 0.2]), np.log([0.4, 0.2, *[0.4 / 6] * 6])
    sums = sorted(float(np.exp((z - z[0]) / temperature).sum()) for z in (few, even))
    assert seen.z == pytest.approx(sums)
    entropies = [float(boltzmann.thermodynamics(z, temperature).entropy) for z in (few, even)]
    if temperature == 1:  # elsewhere the two ends of Z and of S need not be of one distribution
        assert seen.entropy == pytest.approx(entropies)
    assert seen.entropy.low <= entropies[0] + 1e-12
    assert seen.entropy.high >= entropies[1] - 1e-12


def test_the_nucleus_that_ends_among_the_unseen():
    seen = Partial(np.log([0.4, 0.2]), 8, rounding=0).at(1)
    assert seen.nucleus(0.5) == (2, 2)
    assert seen.nucleus(0.75) == (3, 5)  # 0.15 more: one token of 0.2, or three of 0.067
    assert Partial(np.log([0.4, 0.2]), None).at(1).nucleus(0.75).high == math.inf
    assert seen.nucleus(1) == (8, 8)
    assert seen.nucleus(0) == (1, 1)


def test_a_vocabulary_that_nobody_said_has_no_upper_end():
    seen = Partial(np.log([0.4, 0.2])).at(1)
    assert seen.entropy.high == math.inf
    assert seen.entropy.low == pytest.approx(-0.4 * math.log(0.4) - 3 * 0.2 * math.log(0.2), abs=1e-4)
    assert Partial(np.log([0.4, 0.2])).at(2).z.high == math.inf
    assert Partial(np.log([0.4, 0.2])).at(0.5).z.low == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("log_p", "vocabulary", "field"),
    [
        ([], None, "log_p"),
        ([math.nan], None, "log_p"),
        ([-math.inf], None, "log_p"),
        ([0.0, -0.1], None, "log_p"),
        (np.log([0.4, 0.2]), 1, "vocabulary"),
        (np.log([0.4, 0.2]), 3, "vocabulary"),
    ],
)
def test_what_is_no_distribution_is_refused(log_p, vocabulary, field):
    with pytest.raises(InvalidRequest) as refused:
        Partial(np.array(log_p), vocabulary)
    assert refused.value.param == field


def test_what_openai_writes_for_out_of_reach_counts_nothing():
    seen = Partial(np.array([0.0, -9999.0]), 100).at(1)
    assert seen.unseen == (0, 0)
    assert seen.entropy == pytest.approx((0, 0))
