import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscope.laws import boltzmann

LOGITS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1000, 1000))


@given(LOGITS, st.floats(1e-3, 1e3))
def test_weights_are_the_definition_up_to_their_sum(logits, temperature):
    weights = boltzmann.weights(logits, temperature)
    exact = [math.exp((z - max(logits)) / temperature) for z in logits.tolist()]
    np.testing.assert_allclose(weights, exact, rtol=1e-13)
    assert weights.max() == 1


@given(LOGITS)
def test_zero_temperature_keeps_the_first_of_the_best(logits):
    weights = boltzmann.weights(logits, 0.0)
    assert weights.sum() == 1
    assert weights.argmax() == logits.tolist().index(max(logits))


@given(LOGITS)
def test_infinite_temperature_is_uniform(logits):
    assert (boltzmann.weights(logits, math.inf) == 1).all()


@given(LOGITS, st.floats(-500, 500))
def test_a_constant_moves_log_z_and_nothing_else(logits, constant):
    assert boltzmann.log_z(logits + constant) == pytest.approx(boltzmann.log_z(logits) + constant, abs=1e-9)
    moved, still = boltzmann.weights(logits + constant), boltzmann.weights(logits)
    np.testing.assert_allclose(moved, still, atol=1e-10)


@given(LOGITS)
def test_entropy_is_minus_the_mean_log_probability(logits):
    weights = boltzmann.weights(logits)
    p = weights / weights.sum()
    direct = -sum(x * math.log(x) for x in p.tolist() if x > 0)
    assert boltzmann.entropy(logits, weights, float(weights.sum())) == pytest.approx(direct, abs=1e-9)
