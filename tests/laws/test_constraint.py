"""The identity against enumeration, and against a tree of which everything is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscope.errors import InvalidRequest
from thermoscope.laws.constraint import cost, drawn


def tree(rng, depth):
    """log p and work of every leaf of a random tree whose nodes keep a random part of their mass."""
    if depth == 0 or (depth < 3 and rng.random() < 0.3):
        return [(0.0, 0.0)]
    shares = rng.dirichlet(np.ones(rng.integers(2, 5)))
    kept = rng.integers(1, len(shares) + 1)
    mass = shares[:kept].sum()
    return [
        (math.log(share) + log_p, work - math.log(mass))
        for share in shares[:kept]
        for log_p, work in tree(rng, depth - 1)
    ]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_the_identity_is_the_divergence(seed):
    leaves = np.array(tree(np.random.default_rng(seed), 4))
    log_p, work = leaves[:, 0], leaves[:, 1]
    found = cost(log_p, work)
    q = np.exp(log_p + work)
    conditional = np.exp(log_p) / np.exp(log_p).sum()
    assert found.kl == pytest.approx((q * np.log(q / conditional)).sum(), abs=1e-12)
    assert found.work == pytest.approx((q * work).sum())
    assert found.log_mass == pytest.approx(math.log(np.exp(log_p).sum()))
    assert drawn(log_p, work).sum() == pytest.approx(1)


def test_a_mask_that_sees_where_beginnings_lead():
    """Two answers: a rare beginning that is certain to go on, and a likely one that hardly ever does."""
    log_p = np.log([0.1 * 1.0, 0.9 * 0.01])
    work = -np.log([1.0 * 1.0, 1.0 * 0.01])
    found = cost(log_p, work)
    assert drawn(log_p, work) == pytest.approx([0.1, 0.9])
    z = 0.1 + 0.009
    expected = 0.1 * math.log(0.1 / (0.1 / z)) + 0.9 * math.log(0.9 / (0.009 / z))
    assert found.kl == pytest.approx(expected)
    assert found.log_mass == pytest.approx(math.log(z))


def test_one_step_costs_no_divergence():
    log_p = np.log([0.2, 0.05])
    work = np.full(2, -math.log(0.25))
    assert cost(log_p, work).kl == pytest.approx(0, abs=1e-12)
    assert cost(log_p, work).work == pytest.approx(-cost(log_p, work).log_mass)


@pytest.mark.parametrize(
    ("log_p", "work"), [([], []), ([-1.0], [0.0, 0.0]), ([math.log(0.5), math.log(0.25)], [0.0, 0.0])]
)
def test_answers_that_are_not_all_are_refused(log_p, work):
    with pytest.raises(InvalidRequest, match=r"^answers: got"):
        cost(np.array(log_p), np.array(work))
