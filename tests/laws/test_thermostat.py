import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscope.errors import InvalidRequest
from thermoscope.laws.thermostat import temperature_for

repeatable = settings(derandomize=True, deadline=None)
# Multiples of 1/64, so that no two logits differ by less.
LOGITS = st.lists(st.integers(-64_000, 64_000).map(lambda n: n / 64), min_size=2, max_size=50, unique=True)


def softmax(logits, temperature):
    weights = [math.exp((z - max(logits)) / temperature) for z in logits]
    return [weight / math.fsum(weights) for weight in weights]


def perplexity(logits, temperature):
    return math.exp(-math.fsum(p * math.log(p) for p in softmax(logits, temperature) if p > 0))


@repeatable
@given(LOGITS, st.floats(1e-3, 1 - 1e-3))
def test_the_distribution_has_what_was_asked_for(logits, share):
    n = len(logits)
    nats, choices, top = share * math.log(n), n**share, n**-share
    row = np.array(logits)
    assert math.log(perplexity(logits, temperature_for(row, entropy=nats))) == pytest.approx(nats, rel=1e-9)
    assert perplexity(logits, temperature_for(row, perplexity=choices)) == pytest.approx(choices, rel=1e-9)
    assert max(softmax(logits, temperature_for(row, top_probability=top))) == pytest.approx(top, rel=1e-9)


@repeatable
@given(LOGITS, st.integers(-64_000, 64_000), st.floats(1e-3, 1 - 1e-3))
def test_a_constant_changes_no_temperature(logits, constant, share):
    row, nats = np.array(logits), share * math.log(len(logits))
    assert temperature_for(row + constant / 64, entropy=nats) == temperature_for(row, entropy=nats)


@pytest.mark.parametrize("temperature", [1e-200, 1e-3, 0.2, 1.0, 30.0, 1e5, 1e200])
def test_a_known_temperature_is_found_again(temperature):
    # Two levels: top probability and entropy are known functions of gap / T.
    gap = 1.5
    row = np.array([0.0, -gap * temperature, -math.inf])
    top = 1 / (1 + math.exp(-gap))
    nats = -top * math.log(top) - (1 - top) * math.log(1 - top)
    assert temperature_for(row, top_probability=top) == pytest.approx(temperature, rel=1e-12)
    assert temperature_for(row, entropy=nats) == pytest.approx(temperature, rel=1e-12)
    assert temperature_for(row + 3 * temperature, perplexity=math.exp(nats)) == pytest.approx(temperature)


def test_the_ends_are_zero_and_infinity():
    row = np.array([2.0, 1.0, 2.0, -math.inf, 0.0])
    assert temperature_for(row, entropy=math.log(2)) == temperature_for(row, perplexity=2) == 0
    assert temperature_for(row, top_probability=0.5) == 0
    assert temperature_for(row, entropy=math.log(4)) == temperature_for(row, perplexity=4) == math.inf
    assert temperature_for(row, top_probability=0.25) == math.inf
    assert temperature_for(np.zeros(7), entropy=math.log(7)) == 0  # every T is right


@pytest.mark.parametrize("n", [3, 49_152, 262_144])
def test_the_hot_end_of_a_whole_vocabulary(n):
    row = np.random.default_rng(n).normal(scale=4, size=n).astype(np.float32)
    assert temperature_for(row, entropy=math.log(n)) == temperature_for(row, perplexity=n) == math.inf
    assert temperature_for(row, top_probability=1 / n) == math.inf
    assert temperature_for(row, perplexity=1) == temperature_for(row, top_probability=1) == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"entropy": 5.0}, r"entropy: got 5, expected 0\.693147 to 1\.38629, the reach of these logits\."),
        ({"entropy": -1.0}, "entropy: got -1, expected"),
        ({"entropy": math.nan}, "entropy: got nan, expected"),
        ({"perplexity": 0.0}, "perplexity: got 0, expected 2 to 4, "),
        ({"perplexity": 4.1}, "perplexity: got 4.1, expected 2 to 4, "),
        ({"top_probability": 0.6}, "top_probability: got 0.6, expected 0.25 to 0.5, "),
        ({"top_probability": 0.0}, "top_probability: got 0, expected 0.25 to 0.5, "),
        ({}, "target: got none, expected exactly one of entropy, perplexity, top_probability"),
        ({"entropy": 1.0, "perplexity": 2.0}, "target: got entropy and perplexity, expected exactly one of"),
    ],
)
def test_what_cannot_be_reached_is_refused(target, message):
    with pytest.raises(InvalidRequest, match=message):
        temperature_for(np.array([2.0, 1.0, 2.0, -math.inf, 0.0]), **target)


def test_many_rows_are_refused():
    with pytest.raises(InvalidRequest, match=r"logits: got shape \(2, 3\), expected one row of them\."):
        temperature_for(np.zeros((2, 3)), entropy=0.5)
