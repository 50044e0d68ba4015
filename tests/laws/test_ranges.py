import math

import numpy as np
import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.laws.ranges import within


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)])
def test_a_number_in_range_passes(value):
    within("p", value, 0, 1)


@pytest.mark.parametrize(
    ("value", "whole", "message"),
    [
        (1.5, False, "p: got 1.5, expected a number, 0 to 1."),
        (math.nan, False, "p: got nan, expected a number, 0 to 1."),
        ("0.5", False, "p: got '0.5', expected a number, 0 to 1."),
        (True, False, "p: got True, expected a number, 0 to 1."),
        (0.5, True, "p: got 0.5, expected a whole number, 0 to 1."),
    ],
)
def test_what_is_outside_is_told(value, whole, message):
    with pytest.raises(InvalidRequest) as error:
        within("p", value, 0, 1, whole=whole)
    assert (str(error.value), error.value.param) == (message, "p")


def test_a_range_without_an_end_says_so():
    with pytest.raises(InvalidRequest, match=r"k: got -1, expected a number, 2 or more\."):
        within("k", -1, 2, math.inf)
