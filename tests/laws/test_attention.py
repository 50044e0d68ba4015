"""Against loops over Python floats."""

import math

import numpy as np
import pytest
import torch

from thermoscope.errors import InvalidRequest
from thermoscope.laws import attention

DICE = np.random.default_rng(5)


def rows(*shape):
    weights = DICE.gamma(0.3, size=shape) + 1e-9
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
def test_what_a_token_reads_is_the_formula_one_number_at_a_time(library):
    q, k, v = (DICE.normal(size=(2, count, 4)) for count in (3, 5, 5))
    hidden = np.arange(5) > np.arange(2, 5)[:, None]
    got = np.asarray(attention.read(*map(library, (q, k, v)), 0.5, library(hidden)))
    for head in range(2):
        for row in range(3):
            seen = range(row + 3)
            scores = [
                math.exp(0.5 * sum(a * b for a, b in zip(q[head, row], k[head, j], strict=True)))
                for j in seen
            ]
            for at in range(4):
                expected = sum(score * v[head, j, at] for score, j in zip(scores, seen, strict=True)) / sum(
                    scores
                )
                assert got[head, row, at] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
def test_entropy_counts_slots(library):
    even = np.zeros((2, 6))
    even[0, :4], even[1, 2] = 0.25, 1
    assert np.exp(np.asarray(attention.entropy(library(even)))) == pytest.approx([4, 1])
    some = rows(3, 2, 7)
    got = np.asarray(attention.entropy(library(some)))
    for place in np.ndindex(3, 2):
        assert got[place] == pytest.approx(-sum(p * math.log(p) for p in some[place]), rel=1e-12)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
def test_a_value_without_length_is_not_read(library):
    weights, norms = rows(2, 3, 5), DICE.random((2, 5))
    norms[:, 0] = 0
    got = np.asarray(attention.weighted(library(weights), library(norms)))
    for head, row in np.ndindex(2, 3):
        moved = [a * n for a, n in zip(weights[head, row], norms[head], strict=True)]
        assert got[head, row] == pytest.approx([each / sum(moved) for each in moved], rel=1e-12)
    assert (got[..., 0] == 0).all()


def test_the_vertical_score_is_what_comes_from_far_behind():
    between = DICE.random((2, 7, 7))
    got = attention.vertical(between, 4)
    assert got.shape == (2, 3)
    for head, j in np.ndindex(2, 3):
        behind = [between[head, i, j] for i in range(7) if i - j >= 4]
        assert got[head, j] == pytest.approx(sum(behind) / len(behind))
    for gap in (0, 7):
        with pytest.raises(InvalidRequest, match=f"gap: got {gap}, expected 1 to 6"):
            attention.vertical(between, gap)


def test_kurtosis_is_greatest_where_one_stands_out():
    one = np.array([[0.2, 0.2, 0.9, 0.2, 0.2, 0.2]])
    assert attention.kurtosis(one)[0] == pytest.approx(6 - 5 + 1 / 5)
    assert attention.kurtosis(np.full((1, 5), 0.1))[0] == 0
    some = DICE.normal(size=40)
    mean = math.fsum(some) / 40
    second, fourth = (math.fsum((x - mean) ** power for x in some) / 40 for power in (2, 4))
    assert attention.kurtosis(some) == pytest.approx(fourth / second**2 - 3)
    with pytest.raises(InvalidRequest, match="got 3 values, expected 4 or more"):
        attention.kurtosis(one[:, :3])
