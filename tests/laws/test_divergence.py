import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann
from thermoscope.laws.divergence import between_temperatures, js, kl, tv

repeatable = settings(derandomize=True, deadline=None)
PAIRS = st.integers(1, 30).flatmap(lambda n: arrays(np.float64, (2, n), elements=st.floats(-30, 30)))
LOGITS = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1000, 1000))
TEMPERATURES = st.floats(-3, 3).map(lambda power: 10.0**power)


def logs(*p):
    with np.errstate(divide="ignore"):
        return np.log(np.array(p))


def reference(pair):
    """KL, JS and TV as they are written, to 60 digits."""
    with localcontext() as context:
        context.prec = 60
        weights = [[Decimal(float(z)).exp() for z in row] for row in pair]
        p, q = ([weight / sum(row) for weight in row] for row in weights)
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]

        def relative(a, b):
            return sum(x * (x / y).ln() for x, y in zip(a, b, strict=True))

        distance = sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2
        return float(relative(p, q)), float((relative(p, m) + relative(q, m)) / 2), float(distance)


@repeatable
@given(PAIRS)
def test_all_three_are_their_definitions(pair):
    exact = reference(pair)
    log_p, log_q = boltzmann.log_probabilities(pair)
    for law, value in zip((kl, js, tv), exact, strict=True):
        assert law(log_p, log_q) == pytest.approx(value, rel=1e-13, abs=1e-15)
        assert law(log_p, log_p) <= 2e-16
    assert js(log_p, log_q) == js(log_q, log_p)
    assert tv(log_p, log_q) == tv(log_q, log_p)
    # Pinsker's inequality, and Lin's: both bound the distance.
    assert tv(log_p, log_q) <= math.sqrt(kl(log_p, log_q) / 2) + 1e-8
    assert js(log_p, log_q) <= math.log(2) * tv(log_p, log_q) + 1e-12


def test_rows_of_a_whole_vocabulary_agree_with_torch():
    rng = np.random.default_rng(0)
    log_p, log_q = boltzmann.log_probabilities(rng.normal(scale=4, size=(2, 3, 50_000)))
    target, given_ = torch.from_numpy(log_p), torch.from_numpy(log_q)
    exact = torch.nn.functional.kl_div(given_, target, reduction="none", log_target=True).sum(-1)
    np.testing.assert_allclose(kl(log_p, log_q), exact.numpy(), rtol=1e-12)
    np.testing.assert_allclose(kl(log_p.astype(np.float32), log_q.astype(np.float32)), exact, rtol=1e-5)


def test_what_cannot_happen_costs_nothing_or_everything():
    p, q, apart = logs(0.5, 0.5, 0, 0), logs(0.25, 0.25, 0.5, 0), logs(0, 0, 0, 1)
    assert kl(p, q) == pytest.approx(math.log(2), rel=1e-15)
    assert kl(q, p) == math.inf
    assert js(p, q) == pytest.approx(
        0.5 * (0.5 * math.log(4 / 3) * 2 + 0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    )
    assert tv(p, q) == 0.5
    assert (kl(p, apart), tv(p, apart)) == (math.inf, 1)
    assert js(p, apart) == pytest.approx(math.log(2), rel=1e-15)
    assert kl(np.array([0.0, -800.0]), logs(1, 0)) == 0  # exp(-800) is 0 in float64


def test_a_small_difference_keeps_its_digits():
    # To second order KL = sum (p - q)^2 / (2 p).
    z = np.linspace(-3, 3, 41)
    moved = z + 1e-6 * np.cos(np.arange(41))
    p = np.exp(z) / np.exp(z).sum()
    spread = np.cos(np.arange(41))
    variance = (p * spread**2).sum() - (p * spread).sum() ** 2
    distance = kl(boltzmann.log_probabilities(z), boltzmann.log_probabilities(moved))
    assert distance == pytest.approx(0.5e-12 * variance, rel=1e-3)


@repeatable
@given(LOGITS, TEMPERATURES, TEMPERATURES)
def test_temperatures_identity_is_the_sum_it_stands_for(logits, temperature, other):
    through_f = between_temperatures(logits, temperature, other)
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**15, -(10**15)
        z, pair = [Decimal(float(value)) for value in logits], []
        for t in (Decimal(temperature), Decimal(other)):
            total = sum((value / t).exp() for value in z)
            pair.append([value / t - total.ln() for value in z])
        exact = float(sum(a.exp() * (a - b) for a, b in zip(*pair, strict=True)))
    assert through_f == pytest.approx(exact, rel=1e-12, abs=1e-13)
    laws = (boltzmann.log_probabilities(logits, t) for t in (temperature, other))
    assert through_f == pytest.approx(kl(*laws), rel=1e-10, abs=1e-10)


@repeatable
@given(st.lists(st.integers(-8, 8), min_size=1, max_size=20), TEMPERATURES)
def test_the_limits_of_temperatures_identity(levels, temperature):
    z = np.array([*map(float, levels), -math.inf])
    ties, n = levels.count(max(levels)), len(levels)
    entropy = boltzmann.thermodynamics(z, temperature).entropy
    log_p = boltzmann.log_probabilities(z, temperature)
    assert between_temperatures(z, temperature, math.inf) == pytest.approx(math.log(n) - entropy, abs=1e-13)
    assert between_temperatures(z, 0.0, temperature) == pytest.approx(
        -log_p.max() - math.log(ties), abs=1e-13
    )
    mean = sum(log_p[i] for i in range(n)) / n
    hot = between_temperatures(z, math.inf, temperature)
    assert hot == pytest.approx(-math.log(n) - mean, rel=1e-12, abs=1e-13)
    for same in (0.0, temperature, math.inf):
        assert between_temperatures(z, same, same) == pytest.approx(0, abs=1e-14)
    cold = between_temperatures(z, math.inf, 0.0)
    assert cold == (pytest.approx(0, abs=1e-14) if ties == n else math.inf)


def test_a_constant_and_more_rows_change_nothing():
    z = np.random.default_rng(1).integers(-(2**20), 2**20, size=(3, 200)) / 2**16
    every = between_temperatures(z, 0.7, 1.3)
    assert (between_temperatures(z + 512.0, 0.7, 1.3) == every).all()
    for row, one in zip(z, every, strict=True):
        assert between_temperatures(row, 0.7, 1.3) == pytest.approx(one, rel=1e-13)


@pytest.mark.parametrize(
    ("log_p", "log_q", "message"),
    [
        (logs(0.5, 0.5), logs(0.2, 0.3, 0.5), r"log_q: got shape \(3,\), expected \(2,\) as log_p has\."),
        ([0.5, 0.5], logs(0.5, 0.5), "log_p: got probabilities with the sum 3.29744, expected 1; take log-"),
        (logs(0.5, 0.5), [math.nan, 0.0], "log_q: got probabilities with the sum nan, expected 1"),
        (logs(0.5, 0.5), [1e4, 0.0], "log_q: got probabilities with the sum inf, expected 1"),
    ],
)
def test_what_are_no_log_probabilities_is_refused(log_p, log_q, message):
    for law in (kl, js, tv):
        with pytest.raises(InvalidRequest, match=message):
            law(np.array(log_p), np.array(log_q))


def test_a_temperature_below_zero_is_refused():
    for pair in ((-1.0, 1.0), (1.0, math.nan)):
        with pytest.raises(InvalidRequest, match="temperature: got"):
            between_temperatures(np.zeros(3), *pair)
