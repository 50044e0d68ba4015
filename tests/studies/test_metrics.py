"""Repetition against a regular expression, Zipf's exponent against numpy's fit, perplexity by hand."""

import math
import random
import re

import numpy as np
import pytest

from benchmarks.studies.metrics import RANKS, perplexity, repeated_phrase, zipf


def test_a_loop_at_the_end_is_found_and_one_before_it_is_not():
    assert repeated_phrase([9, 1, 2, 1, 2, 1, 2]) == (1, 2)
    assert repeated_phrase([1, 2, 1, 2, 1, 2, 9]) is None
    assert repeated_phrase([1, 2, 1, 2]) is None
    assert repeated_phrase([]) is None


def test_one_token_over_and_over_is_a_phrase_of_two():
    assert repeated_phrase([7] * 5) is None
    assert repeated_phrase([7] * 6) == (7, 7)


def test_the_longest_phrase_that_fits_three_times_is_found():
    phrase = tuple(range(66))
    assert repeated_phrase([99, 98, *phrase * 3]) == phrase


def test_loops_are_those_that_a_regular_expression_finds():
    dice = random.Random(0)
    found = 0
    for _ in range(2000):
        text = "".join(dice.choices("ab", k=dice.randrange(16)))
        by_pattern = re.search(r"(..+)\1\1$", text)
        assert (repeated_phrase(text.encode()) is not None) == (by_pattern is not None), text
        found += by_pattern is not None
    assert found > 50


def test_a_uniform_guess_among_n_has_perplexity_n():
    tokens = np.array([3, 10])
    assert perplexity(tokens * math.log(50), tokens) == pytest.approx(50)


def test_perplexity_counts_tokens_and_not_passages():
    assert perplexity(np.array([0.0, 9 * math.log(2)]), np.array([1, 9])) == pytest.approx(2**0.9)


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.3])
def test_an_exact_power_law_gives_its_exponent(exponent):
    counts = np.round(1e12 * np.arange(1, 2001) ** -exponent).astype(np.int64)
    np.random.default_rng(0).shuffle(counts)
    assert zipf(np.append(counts, [0, 0])) == pytest.approx(exponent, abs=1e-6)


def test_the_fit_is_numpys():
    counts = np.random.default_rng(1).poisson(3, size=500)
    frequencies = np.sort(counts[counts > 0])[::-1]
    slope = np.polyfit(np.log(np.arange(1, len(frequencies) + 1)), np.log(frequencies), 1)[0]
    assert zipf(counts) == pytest.approx(-slope, abs=1e-12)


def test_ranks_past_the_last_do_not_count():
    head = np.round(1e12 / np.arange(1, RANKS + 1)).astype(np.int64)
    assert zipf(np.append(head, np.ones(RANKS, dtype=np.int64))) == pytest.approx(1, abs=1e-6)
