import math

import numpy as np
import pytest
import torch
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
    moved, still = boltzmann.state(logits + constant), boltzmann.state(logits)
    assert moved.log_z == pytest.approx(still.log_z + constant, abs=1e-9)
    assert moved.entropy == pytest.approx(still.entropy, abs=1e-9)
    moved, still = boltzmann.weights(logits + constant), boltzmann.weights(logits)
    np.testing.assert_allclose(moved, still, atol=1e-10)


@given(LOGITS)
def test_entropy_is_minus_the_mean_log_probability(logits):
    weights = boltzmann.weights(logits)
    p = weights / weights.sum()
    direct = -sum(x * math.log(x) for x in p.tolist() if x > 0)
    assert boltzmann.state(logits).entropy == pytest.approx(direct, abs=1e-9)
    assert boltzmann.state(logits).log_z == pytest.approx(max(logits) + math.log(weights.sum()), abs=1e-9)


def test_the_state_of_many_rows_is_that_of_each_in_numpy_and_torch():
    logits = np.random.default_rng(0).normal(scale=8, size=(3, 1000)).astype(np.float32)
    before = logits.copy()
    together, other = boltzmann.state(logits), boltzmann.state(torch.from_numpy(logits))
    for row, each in enumerate(map(boltzmann.state, logits)):
        for quantity in (0, 1):
            assert together[quantity][row] == pytest.approx(each[quantity], rel=1e-14)
            assert float(other[quantity][row]) == pytest.approx(each[quantity], rel=1e-14)
    assert together.log_z.dtype == np.float64
    assert (logits == before).all()
