"""Mirostat against its own promise: the mean surprise comes to be what was asked for."""

import math

import numpy as np
import pytest

from thermoscope.laws import mirostat, truncation


def test_the_numbers_of_one_step():
    """Algorithm 2 with τ = 3 bits: μ starts at 6; a token of 5 bits with η = 0.1 lowers it by 0.2."""
    assert mirostat.start(3.0) == 6.0
    assert mirostat.cutoff(6.0) == 1 / 64
    assert mirostat.cutoff(-2.0) == 1.0
    assert mirostat.steered(6.0, -5 * math.log(2), 3.0, 0.1) == pytest.approx(5.8)


def test_an_infinite_target_cuts_nothing_and_stays():
    mu = mirostat.start(math.inf)
    assert mirostat.cutoff(mu) == 0.0
    assert mirostat.steered(mu, -1.0, math.inf, 0.1) == math.inf


@pytest.mark.parametrize("tau", [3.0, 4.0, 5.0])
def test_the_mean_surprise_comes_to_the_target(tau):
    """Zipf's law with exponent 1.1 over 5,000 tokens, as in the paper's section 4; numpy rolls the dice."""
    generator = np.random.default_rng(7)
    logits = -1.1 * np.log(np.arange(1, 5001))
    p = np.exp(logits) / np.exp(logits).sum()
    mu, surprises = mirostat.start(tau), []
    for _ in range(2000):
        members = truncation.epsilon(logits, mirostat.cutoff(mu)).members
        token = generator.choice(members, p=p[members] / p[members].sum())
        surprises.append(-math.log2(p[token]))
        mu = mirostat.steered(mu, math.log(p[token]), tau, 0.1)
    # What is left of the start, 20 bits at most by η · Σ (s − τ) = μ₀ − μ, is spread over the tokens.
    assert np.mean(surprises) == pytest.approx(tau, abs=20 / 0.1 / 2000)
