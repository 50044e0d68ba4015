import math
from decimal import Decimal, localcontext

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


def exact_gumbel(w):
    with localcontext() as context:
        context.prec = 60
        return float(-(-(1 - w).ln()).ln())


@pytest.mark.parametrize("k", [1, 2, 3, 1000, 2**30, 2**50, 2**52, 2**53 - 2, 2**53 - 1])
def test_the_map_to_gumbel_is_exact(k):
    w = np.array([k * 2.0**-53])
    assert noise.from_tail(w)[0] == pytest.approx(exact_gumbel(Decimal(k) / 2**53), rel=1e-12)


def test_the_map_is_exact_all_along_the_tail():
    powers = np.random.default_rng(0).uniform(0, 51, 500)
    for k in (2**powers).astype(int).tolist():
        value = noise.from_tail(np.array([k * 2.0**-53]))[0]
        assert value == pytest.approx(exact_gumbel(Decimal(k) / 2**53), rel=1e-12)


@pytest.mark.parametrize("k", [0, 1, 2, 1000, 2**30, 2**50, 2**52 - 1])
def test_bits_give_the_middle_of_their_cell(k):
    value = noise.from_bits(np.array([k << 11], dtype=np.uint64))[0]
    assert value == pytest.approx(exact_gumbel((Decimal(k) + Decimal("0.5")) / 2**53), rel=1e-12)


@pytest.mark.parametrize("k", [2**52 + 2, 2**52 + 2**40, 2**53 - 2])
def test_from_a_half_on_two_cells_share_the_point_between_them(k):
    assert k % 2 == 0
    pair = noise.from_bits(np.array([k - 1 << 11, k << 11], dtype=np.uint64))
    assert pair[0] == pair[1] == pytest.approx(exact_gumbel(Decimal(k) / 2**53), rel=1e-12)


def test_the_largest_word_gives_a_number():
    lowest = noise.from_bits(np.array([2**64 - 1], dtype=np.uint64))[0]
    assert lowest == pytest.approx(-math.log(53 * math.log(2)), rel=1e-12)


@pytest.mark.parametrize(("depth", "share"), [(28, 1e-8), (30, 6.5e-8), (33, 3e-5), (36, 0.01)])
def test_a_token_deep_in_the_tail_is_drawn_at_its_rate(depth, share):
    # P(g - depth > g'), summed over the 53-bit words that matter, with g' from the Gumbel law itself.
    k = np.arange(2**21 if depth < 30 else 2**17, dtype=np.uint64)
    rate = np.exp(-np.exp(depth - noise.from_bits(k << np.uint64(11)))).sum() * 2.0**-53
    assert rate == pytest.approx(1 / (1 + math.exp(depth)), rel=share)


def test_ten_million_draws_follow_the_gumbel_law():
    draws = np.concatenate([noise.gumbel(5, 0, i, np.arange(100_000)) for i in range(100)])
    n = len(draws)
    for height in (10, 12, 14):
        expected = n * -math.expm1(-math.exp(-height))
        assert abs((draws > height).sum() - expected) <= 4 * math.sqrt(expected)
    law = np.exp(-np.exp(-draws))
    assert chi_square(np.bincount((law * 1000).astype(int), minlength=1000)) < 4
    law.sort()
    ranks = np.arange(n) / n
    distance = max((law - ranks).max(), (ranks + 1 / n - law).max())
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov's limit at 0.1%; the draws are fixed


@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_ten_million_races_are_won_at_the_rate_of_softmax(temperature):
    depths = np.array([0.0, 10.0, 12.0, 14.0])
    logits = -temperature * depths
    wins = np.zeros(4, dtype=int)
    for position in range(100):  # every four token ids one race
        g = noise.gumbel(9, 0, position, np.arange(400_000)).reshape(-1, 4)
        wins += np.bincount((logits / temperature + g).argmax(axis=1), minlength=4)
    rates = np.exp(-depths) / np.exp(-depths).sum() * 10**7
    assert wins.sum() == 10**7
    assert (np.abs(wins - rates)[1:] <= 4 * np.sqrt(rates[1:])).all(), (wins, rates)


def chi_square(counts):
    """Pearson's statistic against even cells: how many standard deviations from its mean, of hundreds."""
    freedom, expected = counts.size - 1, counts.sum() / counts.size
    return abs(((counts - expected) ** 2).sum() / expected - freedom) / math.sqrt(2 * freedom)


def test_ten_million_words_have_even_bits():
    ones, high, low = np.zeros(64, dtype=int), np.zeros(2**16, dtype=int), np.zeros(2**16, dtype=int)
    for position in range(100):
        words = noise.bits(noise.key(3, 0, position), np.arange(100_000))
        high += np.bincount((words >> np.uint64(48)).astype(int), minlength=2**16)
        low += np.bincount((words >> np.uint64(11) & np.uint64(0xFFFF)).astype(int), minlength=2**16)
        for start in range(0, 64, 8):
            octets = np.bincount((words >> np.uint64(start) & np.uint64(255)).astype(int), minlength=256)
            ones[start : start + 8] += [octets[np.arange(256) >> bit & 1 == 1].sum() for bit in range(8)]
    assert chi_square(high) < 4
    assert chi_square(low) < 4
    assert np.abs(ones - 5 * 10**6).max() <= 4.5 * math.sqrt(10**7) / 2  # one of 64 beyond: 1 in 2,000


@pytest.mark.parametrize(
    "neighbour", [(8, 0, 40), (7, 1, 40), (7, 0, 41), (8, 0, 39), (6, 1, 40), (7, 1, 39), None], ids=str
)
def test_neighbouring_keys_and_tokens_are_independent(neighbour):
    n = 10**6
    words = noise.bits(noise.key(7, 0, 40), np.arange(n + 1))
    first = words[:-1]
    second = noise.bits(noise.key(*neighbour), np.arange(n)) if neighbour else words[1:]
    for shift in (60, 32, 11):
        pairs = [(each >> np.uint64(shift) & np.uint64(15)).astype(int) for each in (first, second)]
        assert chi_square(np.bincount(16 * pairs[0] + pairs[1], minlength=256)) < 4
    different = int(np.bitwise_count(first ^ second).sum(dtype=np.int64))
    assert abs(different - 32 * n) <= 4 * math.sqrt(16 * n)
