"""Steering by its definitions, and von Oswald's construction: a prompt's examples as one step of learning."""

import math

import numpy as np
import pytest

from thermoscope.laws import boltzmann
from thermoscope.laws.steering import (
    mean_difference,
    of_equal_norm,
    off_subspace,
    recovered,
    shift,
    similarity,
)

RANDOM = np.random.default_rng(4)
STATES, TASK, GRADIENT = RANDOM.normal(size=(5, 7)), RANDOM.normal(size=7), RANDOM.normal(size=7)


def test_the_shift_is_gamma_times_the_cosine_times_the_gradient():
    for state, moved in zip(STATES, shift(STATES, TASK, GRADIENT, 2.5), strict=True):
        dot = math.fsum(a * b for a, b in zip(state, TASK, strict=True))
        cosine = dot / math.sqrt(math.fsum(a * a for a in state) * math.fsum(a * a for a in TASK))
        assert similarity(state, TASK) == pytest.approx(cosine, rel=1e-14)
        assert moved == pytest.approx(2.5 * cosine * GRADIENT, rel=1e-13)
    assert similarity(np.zeros(7), TASK) == 0


def test_the_slope_along_the_gradient_is_its_square_with_beta_free():
    """d/dβ log p(y | h + β∇) at 0 = ‖∇‖² for f a linear map; the card's sign would turn it."""
    w, y = RANDOM.normal(size=(7, 11)), 3
    h = STATES[0]

    def log_p(state):
        return boltzmann.log_probabilities(state @ w)[y]

    gradient = w[:, y] - w @ boltzmann.probabilities(h @ w)  # ∂ log p(y) / ∂h, in closed form
    step = 1e-5
    slope = (log_p(h + step * gradient) - log_p(h - step * gradient)) / (2 * step)
    assert slope == pytest.approx(gradient @ gradient, rel=1e-8)
    assert log_p(h - 0.1 * gradient) < log_p(h) < log_p(h + 0.1 * gradient)


def test_the_mean_difference_takes_the_mean_bare_state_to_the_mean_prompted_one():
    prompted = RANDOM.normal(size=(5, 7))
    moved = STATES + mean_difference(prompted, STATES)
    assert moved.mean(axis=0) == pytest.approx(prompted.mean(axis=0), abs=1e-14)


def test_a_control_is_as_long_as_what_it_stands_for():
    shifts = shift(STATES, TASK, GRADIENT, 3)
    for directions in (RANDOM.normal(size=(5, 7)), RANDOM.normal(size=7)):
        control = of_equal_norm(shifts, directions)
        assert np.linalg.norm(control, axis=-1) == pytest.approx(np.linalg.norm(shifts, axis=-1), rel=1e-14)
        assert similarity(control[0], np.atleast_2d(directions)[0]) == pytest.approx(1)


def test_recovered_is_one_for_the_prompt_itself_and_none_without_an_effect():
    bare, prompted, other = boltzmann.log_probabilities(RANDOM.normal(scale=2, size=(3, 4, 9)))
    assert recovered(prompted, prompted, bare) == 1
    assert recovered(prompted, bare, bare) == 0
    p, q, r = (np.exp(each) for each in (prompted, bare, other))
    written = 1 - np.sum(p * np.log(p / r)) / np.sum(p * np.log(p / q))
    assert recovered(prompted, other, bare) == pytest.approx(written, rel=1e-12)
    assert recovered(bare, other, bare) is None


def test_the_distance_to_the_demonstrations_is_that_of_least_squares():
    demonstrations = RANDOM.normal(size=(3, 7))
    base, *others = demonstrations
    edges = np.array(others) - base
    for state in STATES:
        weights, *_ = np.linalg.lstsq(edges.T, state - base, rcond=None)
        apart = np.linalg.norm(state - base - weights @ edges) / np.linalg.norm(state)
        assert off_subspace(state, demonstrations) == pytest.approx(apart, rel=1e-12)
    inside = np.array([0.2, -0.5, 1.3]) @ demonstrations
    assert off_subspace(inside, demonstrations) == pytest.approx(0, abs=1e-14)
    assert off_subspace(base, np.array([base, base])) == pytest.approx(0, abs=1e-14)


def test_one_linear_attention_layer_is_one_gradient_step():
    """von Oswald et al. 2023, proposition 1: tokens (x_j, y_j), W_K = W_Q = [I 0], W_V = η/N [−W_0 I].

    The step is on L(W) = Σ ‖W x_j − y_j‖² / 2N from W_0; the query (x, W_0 x) then holds (W_0 + ΔW) x. It
    shows that attention can learn from a prompt, and not that a language model does so.
    """
    inputs, outputs, examples, rate = 6, 4, 20, 0.3
    start = RANDOM.normal(size=(outputs, inputs))
    x, y = RANDOM.normal(size=(examples, inputs)), RANDOM.normal(size=(examples, outputs))
    query = RANDOM.normal(size=inputs)

    gradient = sum(np.outer(start @ a - b, a) for a, b in zip(x, y, strict=True)) / examples
    stepped = (start - rate * gradient) @ query

    tokens = np.hstack([x, y])
    asked = np.concatenate([query, start @ query])
    look = np.hstack([np.eye(inputs), np.zeros((inputs, outputs))])  # W_K and W_Q
    write = np.zeros((inputs + outputs, inputs + outputs))
    write[inputs:] = rate / examples * np.hstack([-start, np.eye(outputs)])  # W_V, into the second part only
    attended = asked + (tokens @ write.T).T @ ((tokens @ look.T) @ (look @ asked))
    assert np.abs(attended[inputs:] - stepped).max() <= 1e-10
    assert attended[:inputs] == pytest.approx(query)
