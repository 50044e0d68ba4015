"""What moves with a constant and what does not, on made-up logits."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from thermoscope.instruments._gauge import measure

LOGITS = some.lists(some.floats(-1000, 1000), min_size=2, max_size=40)


def rows(reading):
    return {row["quantity"]: row for row in reading.to_dict()["tables"]["state"]["rows"]}


@given(LOGITS, some.floats(1e-3, 1e3), some.floats(-1e4, 1e4))
def test_every_check_passes_on_any_logits(z, temperature, gauge):
    assert measure(np.array(z), temperature, gauge).passed


def test_two_states_by_hand():
    """E = 0 and 1 at T = 0.5, a constant of 7."""
    found = rows(measure(np.array([0.0, -1.0]), 0.5, 7.0))
    boltzmann = math.exp(-2.0)
    z, p = 1 + boltzmann, boltzmann / (1 + boltzmann)
    assert found["log Z"]["value"] == pytest.approx(math.log(z))
    assert found["F"]["value"] == pytest.approx(-0.5 * math.log(z))
    assert found["U"]["value"] == pytest.approx(p)
    assert found["Var E"]["value"] == pytest.approx(p * (1 - p))
    assert found["C"]["value"] == pytest.approx(p * (1 - p) / 0.25)
    assert found["S"]["value"] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    moved = {name: row["moved"] for name, row in found.items()}
    expected = {"E_0": -7, "U": -7, "F": -7, "log Z": 14}
    for name, row in found.items():
        assert moved[name] == pytest.approx(expected.get(name, 0), abs=1e-12)
        assert row["theory"] == expected.get(name, 0)
        assert row["gauge_free"] == (name not in expected)
    assert found["log Z"]["after"] == pytest.approx(math.log(math.exp(14) + math.exp(12)))


@pytest.mark.parametrize("temperature", [0.0, math.inf])
def test_both_ends_pass(temperature):
    reading = measure(np.array([1.0, 1.0, -2.0]), temperature, -3.0)
    assert reading.passed
    assert rows(reading)["S"]["value"] == pytest.approx(math.log(2 if temperature == 0 else 3))


@pytest.mark.parametrize("field", ["energy", "entropy", "free_energy"])
def test_a_low_temperature_excuses_only_what_rounding_does(field, monkeypatch):
    from thermoscope.laws import boltzmann

    right = boltzmann.thermodynamics
    z = np.array([3.0, 3.0, -2.0])
    assert measure(z, 1e-10, 10.0).passed

    def wrong(z, temperature):
        state = right(z, temperature)
        return state._replace(**{field: getattr(state, field) + 0.02 * (z.max() > 5)})

    monkeypatch.setattr(boltzmann, "thermodynamics", wrong)
    assert not all(check.passed for check in measure(z, 1e-10, 10.0).checks[:2])


def test_a_check_fails_where_the_law_does(monkeypatch):
    """Nothing may pass by construction: a law that is off by a thousandth is found out."""
    from thermoscope.laws import boltzmann

    right = boltzmann.thermodynamics
    for field in ("energy", "entropy", "heat_capacity", "free_energy"):
        monkeypatch.setattr(
            boltzmann,
            "thermodynamics",
            lambda z, temperature, field=field: (state := right(z, temperature))._replace(
                **{field: getattr(state, field) * 1.001}
            ),
        )
        assert not measure(np.array([3.0, 1.0, -2.0]), 1.0, 10.0).passed
