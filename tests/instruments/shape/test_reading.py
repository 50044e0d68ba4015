import json
import math

import numpy as np
import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table, joined, plain

COLUMNS = (Column("a", "A number", "nats"), Column("b", "A text"))


def test_plain_values_are_json():
    value = {"a": np.float64(1.5), "b": (np.int64(3), True, None), "c": math.inf, "d": [-math.inf, "x"]}
    assert json.dumps(plain(value), allow_nan=False)
    assert plain(value) == {"a": 1.5, "b": [3, True, None], "c": "inf", "d": ["-inf", "x"]}
    assert isinstance(plain(np.int64(3)), int)
    assert plain(np.bool_(True)) is True


def test_a_number_that_is_none_is_a_mistake():
    with pytest.raises(ValueError, match="holds a NaN"):
        plain({"a": [math.nan]})


def test_a_row_must_fit_its_columns():
    with pytest.raises(ValueError, match="t: got 1 cells, expected 2"):
        Table("t", "T", COLUMNS, [(1,)])


def test_a_table_s_rows_are_objects_in_json():
    table = Table("t", "T", COLUMNS, [(1.0, "x"), (None, "y")]).to_dict()
    assert table["rows"] == [{"a": 1.0, "b": "x"}, {"a": None, "b": "y"}]
    assert table["columns"]["a"] == {"meaning": "A number", "unit": "nats"}


@pytest.mark.parametrize(
    ("residual", "passed"), [(0, True), (1e-9, True), (2e-9, False), (math.inf, False), (math.nan, False)]
)
def test_a_check_passes_within_its_tolerance(residual, passed):
    check = Check("a = b", "both ways", residual, 1e-9)
    assert check.passed is passed
    assert json.dumps(check.to_dict(), allow_nan=False)
    assert Reading(checks=[Check("x", "y", 0, 0), check]).passed is passed


def test_parts_join_in_their_order():
    one = Reading(findings=["a"], tables=[Table("t", "T", COLUMNS, [])], notes=["n"])
    other = Reading(findings=["b"], checks=[Check("x", "y", 0, 0)])
    both = joined(one, other)
    assert both.findings == ["a", "b"]
    assert both.table("t") is one.tables[0]
    assert [check.name for check in both.checks] == ["x"]
    assert both.notes == ["n"]
    with pytest.raises(InvalidRequest, match="table: got 'u', expected one of t"):
        both.table("u")
