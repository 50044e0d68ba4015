import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscope.laws import penalties


def test_repetition_pulls_a_seen_token_down_on_either_side_of_zero():
    assert penalties.repetition(np.array([2.0, -2.0, 0.0]), 2.0).tolist() == [1.0, -4.0, 0.0]
    assert penalties.repetition(np.array([2.0, -2.0]), 0.5).tolist() == [4.0, -1.0]


def test_presence_counts_once_and_frequency_every_time():
    assert penalties.counted(np.array([1.0, 3.0]), 0.5, 0.25).tolist() == [0.75, 1.25]


def slow(tokens, multiplier, base, allowed, breakers):
    """The definition, place by place: the longest tail that stands before one where the token follows."""
    costs = {}
    for token in set(tokens) - set(breakers):
        longest = 0
        for place in range(1, len(tokens)):
            if tokens[place] != token:
                continue
            length = 0
            while (
                length < place
                and tokens[place - 1 - length] == tokens[-1 - length]
                and tokens[-1 - length] not in breakers
            ):
                length += 1
            longest = max(longest, length)
        if longest >= allowed:
            costs[token] = multiplier * base ** (longest - allowed)
    return costs


@given(
    st.lists(st.integers(0, 3), max_size=40),
    st.floats(0.1, 4),
    st.floats(1, 3),
    st.integers(1, 5),
    st.sets(st.integers(0, 3), max_size=2),
)
def test_dry_is_its_definition(tokens, multiplier, base, allowed, breakers):
    found = penalties.dry(np.array(tokens, dtype=np.int64), multiplier, base, allowed, breakers)
    assert found == pytest.approx(slow(tokens, multiplier, base, allowed, breakers))


def test_dry_on_a_known_text():
    """1 2 3 has come twice; 4 followed it. Three tokens match, two are free: 1.75 nats times 0.8."""
    tokens = np.array([1, 2, 3, 4, 9, 1, 2, 3])
    assert penalties.dry(tokens, 0.8, 1.75, 2) == {4: pytest.approx(0.8 * 1.75)}
    assert penalties.dry(tokens, 0.8, 1.75, 4) == {}
    assert penalties.dry(tokens, 0.8, 1.75, 2, breakers={1}) == {4: pytest.approx(0.8)}
    assert penalties.dry(tokens, 0.8, 1.75, 2, breakers={3}) == {}


def test_a_long_repetition_costs_a_finite_number():
    cost = penalties.dry(np.zeros(5000, dtype=np.int64), 1.0, 4.0, 2)[0]
    assert math.isfinite(cost)
    assert cost > 1e30
