import pytest

from thermoscope.catalogue.hardware import hardware
from thermoscope.planning.memory import device
from thermoscope.planning.memory.plan import Plan

GIB = 2**30


def test_measured_memory_comes_before_what_is_sold():
    assert device.usable(hardware("T4")) == 15_637_086_208


def test_a_step_loses_less_to_pieces_than_activations_do():
    step, loss = (Plan({phase: {"all": 10 * GIB}}, {}) for phase in ("step", "loss"))
    assert device.needed(step) == pytest.approx(10.4 * GIB + 0.5 * GIB)
    assert device.needed(loss) == pytest.approx(10.77 * GIB + 0.5 * GIB)


def test_the_band_holds_its_number():
    for kind in ("training", "inference"):
        below, above = device.band(1.0, kind)
        assert below < 1 < above
