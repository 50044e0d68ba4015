"""Every law at the least and the greatest temperatures there are; a warning is an error here."""

import math

import numpy as np
import pytest

from thermoscope.laws import (
    boltzmann,
    calibration,
    divergence,
    dynamic_temperature,
    loss,
    truncation,
)
from thermoscope.laws.filters import Filters
from thermoscope.laws.profiles import PROFILES

EXTREMES = [5e-324, 1e-310, 1e-300, 1e-30, 1e30, 1e300, 1e308, 1.7e308]
LOGITS = np.array([[3.0, 2.0, 1.0, -7.0], [5.0, 5.0, -1e4, -math.inf], [1e30, 0.0, -1e30, 1.0]])


@pytest.mark.parametrize("temperature", EXTREMES)
def test_a_distribution_has_its_limit(temperature):
    limit = boltzmann.thermodynamics(LOGITS, 0.0 if temperature < 1 else math.inf)
    state = boltzmann.thermodynamics(LOGITS, temperature)
    assert state.entropy[:2] == pytest.approx(limit.entropy[:2])
    assert state.energy[:2] == pytest.approx(limit.energy[:2])
    assert not np.isnan(np.array(state)).any()
    for z in LOGITS:
        assert boltzmann.probabilities(z, temperature).sum() == pytest.approx(1)
        assert 1 <= boltzmann.weights(z, temperature).sum() <= 4


@pytest.mark.parametrize("temperature", EXTREMES)
def test_every_other_law_has_a_number(temperature):
    labels = np.array([1, 0, 0])
    assert not math.isnan(calibration.nll(LOGITS, labels, temperature))
    assert calibration.reliability(LOGITS, labels, temperature)
    assert not np.isnan(loss.loss(LOGITS, labels, temperature)).any()
    assert not np.isnan(loss.gradient(LOGITS, labels, temperature)).any()
    for other in (0.0, *EXTREMES, math.inf):
        assert not np.isnan(divergence.between_temperatures(LOGITS, temperature, other)).any()
    for z in LOGITS:
        for spread in EXTREMES:
            assert dynamic_temperature.temperature(z, temperature, spread) >= 0
        for cut in (
            truncation.nucleus,
            truncation.min_p,
            truncation.epsilon,
            truncation.eta,
            truncation.typical,
            truncation.xtc,
            truncation.top_n_sigma,
        ):
            for value in (0.0, 0.3, 1.0):
                assert 0 <= cut(z, value, temperature).removed <= 1


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("temperature", EXTREMES)
def test_every_profile_leaves_a_distribution(profile, temperature):
    filters = Filters(temperature=temperature, top_k=3, top_p=0.9, min_p=0.01)
    for z in LOGITS:
        assert np.exp(profile.apply(z, filters)[-1].logprobs).sum() == pytest.approx(1)
