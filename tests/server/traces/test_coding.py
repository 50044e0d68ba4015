"""A step comes back from its row as it was, to the bit."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscope.engine.trace import Alternative, Record, Step
from thermoscope.server.traces.coding import pack, unpack

number = st.floats(allow_nan=False)
finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
token = st.integers(0, 2**31)
records = st.builds(
    Record,
    logprob=number,
    sampler_logprob=number,
    entropy=finite,
    log_z=finite,
    kept=token,
    removed_mass=finite,
    alternatives=st.lists(st.builds(Alternative, token, text, number, number), max_size=25).map(tuple),
)
steps = st.builds(Step, token, text, st.binary(max_size=8), finite, st.none() | records)


@given(steps)
def test_there_and_back(step):
    plain = unpack(pack(step))
    assert plain == step.to_dict()
    assert Step.from_dict(plain) == step
    json.dumps(plain, allow_nan=False)


@pytest.mark.parametrize("count", [0, 20])
def test_a_row_is_smaller_than_its_json(count):
    others = tuple(Alternative(1000 + n, " word", -math.pi * n, -math.e * n) for n in range(count))
    row = pack(Step(1000, " word", b" word", 5.1, Record(-1.5, -1.25, 2.5, 17.3, 40, 0.1, others)))
    size = len(row.plain) + len(row.best or b"") + len(row.texts or "")
    assert (row.best is None) == (count == 0)
    assert size < 1000
