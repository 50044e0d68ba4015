import math

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.laws.filters import Filters


def test_neutral_filters_ask_for_nothing():
    assert Filters().active == {}
    assert Filters(temperature=0.3, xtc_threshold=0.4, dynatemp_exponent=2.0, mirostat_eta=0.5).active == {}


def test_a_stage_is_named_with_the_field_that_asks_for_it():
    filters = Filters(top_k=5, typical_p=0.9, xtc_probability=0.5, mirostat_tau=3.0, dynatemp_range=0.1)
    assert filters.active == {
        "dynatemp": "dynatemp_range",
        "top_k": "top_k",
        "typical_p": "typical_p",
        "xtc": "xtc_probability",
        "mirostat": "mirostat_tau",
    }


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_p", 1.1),
        ("top_k", 1.5),
        ("min_p", -1),
        ("typical_p", math.nan),
        ("epsilon", 2),
        ("eta", -0.1),
        ("top_n_sigma", -1),
        ("xtc_probability", 1.5),
        ("xtc_threshold", -0.5),
        ("dynatemp_range", -1),
        ("dynatemp_exponent", math.nan),
        ("mirostat_tau", -1),
        ("mirostat_eta", "fast"),
    ],
)
def test_a_value_out_of_range_is_refused(param, value):
    with pytest.raises(InvalidRequest, match=f"{param}: got ") as error:
        Filters(**{param: value})
    assert error.value.param == param
