"""The heat capacity's peak, where theory knows it."""

import math

import numpy as np
import pytest

from thermoscope.instruments._heat import CURVE, against_temperature


@pytest.mark.parametrize("others", [1, 9, 5000])
def test_the_peak_of_two_levels(others):
    """One state below g: with x = gap/T, C = x² q (1 − q), q = g/(g + eˣ), is greatest where
    x (1 − 2q) = 2."""
    gap = 3.0
    z = np.array([gap, *[0.0] * others])
    low, high = 1e-3, 60.0
    for _ in range(200):  # x (1 − 2q) rises with x
        x = (low + high) / 2
        low, high = (x, high) if x * (1 - 2 / (1 + math.exp(x) / others)) < 2 else (low, x)
    share = others / (others + math.exp(x))
    reading = against_temperature(z, 1.0)
    ((temperature, heat, entropy, top),) = reading.table("peak").rows
    assert temperature == pytest.approx(gap / x, rel=1e-6)
    assert heat == pytest.approx(x * x * share * (1 - share), rel=1e-12)
    assert top == pytest.approx(max(1 - share, share / others), rel=1e-6)
    mixed = -share * math.log(share / others) - (1 - share) * math.log(1 - share)
    assert entropy == pytest.approx(mixed, rel=1e-6)
    assert reading.passed


def test_no_peak_is_said():
    level = against_temperature(np.zeros(5), 1.0)
    assert [table.name for table in level.tables] == ["curve"]
    assert level.notes == ["C has no peak between T = 0.01 and 100."]
    assert level.passed


def test_the_curve_and_its_marks():
    z = np.random.default_rng(4).normal(scale=3, size=300)
    reading = against_temperature(z, 0.8)
    (figure,) = reading.figures
    marks = [trace["x"][0] for trace in figure.traces if trace["x"][0] == trace["x"][1]]
    assert marks == [0.8, reading.table("peak").rows[0][0]]
    rows = reading.table("curve").rows
    assert [row[0] for row in rows] == list(CURVE)
    for temperature, free, energy, free_above, energy_above, entropy, _ in rows:
        assert free_above - free == pytest.approx(z.max(), abs=1e-9)
        assert energy_above - energy == pytest.approx(z.max(), abs=1e-9)
        assert energy - free == pytest.approx(temperature * entropy, rel=1e-9, abs=1e-9)
    assert len(against_temperature(z, math.inf).figures[0].traces) == len(figure.traces) - 1
