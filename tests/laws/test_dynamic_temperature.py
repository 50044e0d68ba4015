import math

import numpy as np
import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.laws.dynamic_temperature import temperature


def test_it_follows_the_entropy_from_one_end_to_the_other():
    assert temperature(np.zeros(16), 1.0, 0.5) == pytest.approx(1.5)  # all are equal: the greatest entropy
    assert temperature(np.array([100.0, 0.0, 0.0]), 1.0, 0.5) == pytest.approx(0.5)
    p = np.array([0.5, 0.25, 0.25])
    share = 1.5 * math.log(2) / math.log(3)  # S is 1.5 bits
    assert temperature(np.log(p), 1.0, 0.5) == pytest.approx(0.5 + share)
    assert temperature(np.log(p), 1.0, 0.5, 2.0) == pytest.approx(0.5 + share**2)


def test_the_low_end_is_never_below_zero():
    assert temperature(np.array([800.0, 0.0]), 0.5, 2.0) == 0.0
    assert temperature(np.zeros(4), 0.5, 2.0) == pytest.approx(2.5)


def test_where_there_is_nothing_to_follow_it_is_what_was_asked_for():
    assert temperature(np.array([3.0, 1.0]), 0.7, 0.0) == 0.7
    assert temperature(np.array([3.0]), 0.7, 0.5) == 0.7
    assert temperature(np.array([3.0, 1.0]), math.inf, 0.5) == math.inf


def test_tokens_that_were_cut_off_do_not_count():
    cut = -math.inf
    expected = temperature(np.array([3.0, 2.0, 1.0]), 1.0, 0.5)
    assert expected < 1.5
    assert temperature(np.array([3.0, 2.0, 1.0, cut, cut, cut]), 1.0, 0.5) == expected
    assert temperature(np.array([cut, 3.0]), 0.7, 0.5) == 0.7


@pytest.mark.parametrize("cold", [True, False])
def test_an_endless_range_has_its_ends(cold):
    logits = np.array([800.0, 0.0]) if cold else np.zeros(2)
    for middle, spread in ((1.0, math.inf), (1.7e308, 1.7e308)):
        assert temperature(logits, middle, spread) == (0.0 if cold else math.inf)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ((-1.0, 0.5), "temperature"),
        ((1.0, -0.5), "dynatemp_range"),
        ((1.0, 0.5, math.nan), "dynatemp_exponent"),
    ],
)
def test_a_number_out_of_range_is_refused(arguments, param):
    with pytest.raises(InvalidRequest, match=f"{param}: got"):
        temperature(np.zeros(2), *arguments)
