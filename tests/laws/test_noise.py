import math
from decimal import Decimal, getcontext

import numpy as np
import pytest

from thermoscope.laws import noise


def splitmix(x):
    """The published finaliser, in Python's integers."""
    mask = 2**64 - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_the_hash_is_splitmix64():
    # First outputs of SplitMix64 from state 1234567, as its reference implementation gives them.
    states = [(1234567 + 0x9E3779B97F4A7C15 * i) % 2**64 for i in range(1, 6)]
    assert [splitmix(state) for state in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    key = 0
    for part in (7, 2, 11):
        key = splitmix((key + part + 0x9E3779B97F4A7C15) % 2**64)
    tokens = [0, 1, 49151, 262143]
    expected = [splitmix((key + token * 0x9E3779B97F4A7C15) % 2**64) for token in tokens]
    assert noise.bits(noise.key(7, 2, 11), np.array(tokens)).tolist() == expected


def test_noise_depends_on_each_of_its_keys_and_nothing_else():
    tokens = np.arange(1000)
    base = noise.gumbel(1, 0, 0, tokens)
    assert (base == noise.gumbel(1, 0, 0, tokens)).all()
    assert (base[500:600] == noise.gumbel(1, 0, 0, tokens[500:600])).all()
    for other in ((2, 0, 0), (1, 1, 0), (1, 0, 1), (-1, 0, 0), (2**64 - 2, 0, 0)):
        assert abs(np.corrcoef(base, noise.gumbel(*other, tokens))[0, 1]) < 0.13  # 4 sigma


@pytest.mark.parametrize("k", [0, 1, 2, 1000, 2**30, 2**50, 2**52 - 1])
def test_the_map_to_gumbel_is_exact(k):
    # Above 2^52, k + ½ rounds; that is the lower half, which never decides a draw by its last digits.
    getcontext().prec = 60
    w = (Decimal(k) + Decimal("0.5")) * Decimal(2) ** -53
    exact = -(-(1 - w).ln()).ln()
    value = noise.from_bits(np.array([k << 11], dtype=np.uint64))[0]
    assert value == pytest.approx(float(exact), rel=1e-12)


def test_the_largest_word_gives_a_number():
    lowest = noise.from_bits(np.array([2**64 - 1], dtype=np.uint64))[0]
    assert math.isfinite(lowest)


def test_two_million_draws_follow_the_gumbel_law():
    draws = np.sort(np.concatenate([noise.gumbel(5, 0, i, np.arange(20_000)) for i in range(100)]))
    law = np.exp(-np.exp(-draws))
    n = len(draws)
    distance = max((np.arange(1, n + 1) / n - law).max(), (law - np.arange(n) / n).max())
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov's limit at 0.1%; the draws are fixed


def test_the_tail_is_there():
    draws = np.concatenate([noise.gumbel(9, 0, i, np.arange(100_000)) for i in range(100)])
    for height in (10, 12, 14):
        expected = len(draws) * -math.expm1(-math.exp(-height))
        assert abs((draws > height).sum() - expected) <= 4 * math.sqrt(expected)
