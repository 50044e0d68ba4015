"""The area against a fine sum under the straight lines, and where it is known."""

import numpy as np
import pytest

from thermoscope.laws import early_answering


def test_gains_add_up():
    log_p = np.array([-3.0, -2.5, -4.0, -0.25])
    assert early_answering.gains(log_p).tolist() == [0.5, -1.5, 3.75]
    assert early_answering.gains(log_p).sum() == log_p[-1] - log_p[0]


@pytest.mark.parametrize(
    ("p", "area"), [([0.5, 0.5, 0.5], 0), ([0, 0, 0, 1], 5 / 6), ([0, 0.5, 1], 0.5), ([1, 0.5], -0.5)]
)
def test_areas_that_are_known(p, area):
    assert early_answering.area_over(np.array(p)) == pytest.approx(area)


def test_the_area_is_that_over_straight_lines():
    dice = np.random.default_rng(2)
    p = dice.random(8)
    fine = (np.arange(200_000) + 0.5) / 200_000
    for bias in (0.0, p[-1] / 3):
        curve = np.interp(fine, np.linspace(0, 1, 8), p)
        expected = (1 - (curve - bias) / (p[-1] - bias)).mean()
        assert early_answering.area_over(p, bias) == pytest.approx(expected, abs=1e-8)


def test_an_answer_that_is_likely_anyhow_looks_early_until_its_bias_is_taken_off():
    p = np.array([0.8, 0.8, 0.9])
    assert early_answering.area_over(p) < 0.1
    assert early_answering.area_over(p, 0.8) == pytest.approx(0.75)
    assert early_answering.area_over(p, 0.9) is None
