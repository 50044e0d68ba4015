import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann
from thermoscope.laws.loss import gradient, loss

LOGITS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1000, 1000))
TEMPERATURES = st.floats(-3, 3).map(lambda power: 10.0**power)

repeatable = settings(derandomize=True, deadline=None)


def by_autograd(logits, label, temperature):
    z = torch.tensor(logits, requires_grad=True)
    value = torch.nn.functional.cross_entropy((z - z.detach().max()) / temperature, torch.tensor(label))
    value.backward()
    return value.item(), z.grad.numpy()


@repeatable
@given(LOGITS, st.integers(0, 10**6), TEMPERATURES)
def test_loss_and_gradient_are_what_autograd_finds(logits, label, temperature):
    label %= len(logits)
    value, slope = by_autograd(logits, label, temperature)
    assert loss(logits, np.array(label), temperature) == pytest.approx(value, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(
        temperature * gradient(logits, np.array(label), temperature), temperature * slope, atol=1e-12
    )


@repeatable
@given(LOGITS, st.integers(0, 10**6), TEMPERATURES)
def test_the_loss_is_the_energy_above_the_free_energy(logits, label, temperature):
    label %= len(logits)
    state = boltzmann.thermodynamics(logits, temperature)
    residual = temperature * loss(logits, np.array(label), temperature) - (-logits[label] - state.free_energy)
    assert abs(residual) <= 1e-10 * max(1, abs(state.energy), temperature * state.entropy)


@pytest.mark.parametrize("temperature", [1e-3, 0.7, 1e3])
def test_both_hold_for_a_whole_vocabulary(temperature):
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(scale=4, size=(3, 50_000)), rng.integers(50_000, size=3)
    losses, slopes = loss(logits, labels, temperature), gradient(logits, labels, temperature)
    for row, label, each, slope in zip(logits, labels.tolist(), losses, slopes, strict=True):
        value, exact = by_autograd(row, label, temperature)
        assert each == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(temperature * slope, temperature * exact, atol=1e-12)
        assert abs(temperature * math.fsum(slope)) <= 1e-12


@repeatable
@given(arrays(np.int64, 8, elements=st.integers(-(2**30), 2**30)), st.integers(-(2**30), 2**30), TEMPERATURES)
def test_a_constant_changes_neither(numerators, constant, temperature):
    logits, label = numerators / 2**20, np.array(3)  # on a grid, so that the sum is not rounded
    moved = logits + constant / 2**20
    assert loss(moved, label, temperature) == loss(logits, label, temperature)
    assert (gradient(moved, label, temperature) == gradient(logits, label, temperature)).all()


def test_a_sure_answer_costs_little_and_not_nothing():
    sure = np.array([50.0, 0.0, -math.inf])
    assert loss(sure, np.array(0)) == pytest.approx(math.exp(-50), rel=1e-14)
    np.testing.assert_allclose(gradient(sure, np.array(0)), [-math.exp(-50), math.exp(-50), 0], rtol=1e-14)


def test_the_ends():
    row = np.array([2.0, 3.0, 3.0, -math.inf])
    rows, every = np.tile(row, (4, 1)), np.arange(4)
    assert loss(rows, every, 0.0).tolist() == [math.inf, 0.0, math.inf, math.inf]
    assert loss(rows, every, math.inf)[:3] == pytest.approx(math.log(3))
    assert loss(rows, every, math.inf)[3] == math.inf
    assert (gradient(rows, every, math.inf) == 0).all()
    with pytest.raises(InvalidRequest, match="temperature: got 0, where the loss has no gradient"):
        gradient(rows, every, 0.0)


@repeatable
@given(arrays(np.float64, (2, 7), elements=st.floats(-10, 10)))
def test_distillation_matches_logits_when_hot(logits):
    # Hinton et al. 2015, section 2.1: T^2 dCE/dz -> (z - v) / N for logits of mean zero. The teacher's
    # cross-entropy is its average of the loss over labels, and so is the gradient.
    student, teacher = logits - logits.mean(axis=1, keepdims=True)
    n = len(student)
    gaps = []
    for temperature in (1e4, 1e5):
        p = boltzmann.probabilities(teacher, temperature)
        slope = p @ gradient(np.tile(student, (n, 1)), np.arange(n), temperature)
        gaps.append(np.abs(temperature**2 * slope - (student - teacher) / n).max())
    assert gaps[0] <= 4 * 20**2 / n / 1e4  # the next order: z^2 / (2 N T), and so for v and the means
    assert gaps[1] <= 0.11 * gaps[0] + 1e-9


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 3], "labels: got 3, expected token ids, 0 to 2."),
        ([-1, 0], "labels: got -1, expected token ids, 0 to 2."),
        ([0], r"labels: got int64 of shape \(1,\), expected whole numbers of shape \(2,\)\."),
        ([0.0, 1.0], r"labels: got float64 of shape \(2,\), expected whole numbers"),
    ],
)
def test_what_is_no_label_is_refused(labels, message):
    for law in (loss, gradient):
        with pytest.raises(InvalidRequest, match=message) as refused:
            law(np.zeros((2, 3)), np.array(labels))
        assert refused.value.param == "labels"
