import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermoscope.laws import truncation

# Few distinct values, so that ties are common.
LOGITS = st.lists(st.integers(-30, 30).map(lambda n: n / 2), min_size=1, max_size=60).map(np.array)


def ranking(logits):
    return sorted(range(len(logits)), key=lambda i: (-logits[i], i))


def logs(*probabilities):
    return np.log(np.array(probabilities))


@given(LOGITS, st.integers(1, 70))
def test_top_k_is_the_head_of_the_ranking(logits, k):
    assert truncation.top_k(logits, k).tolist() == ranking(logits)[:k]


@given(LOGITS, st.floats(0, 1), st.sampled_from([0.1, 0.7, 1.0, 3.0, 1e4, np.inf]))
def test_nucleus_is_the_smallest_set_that_reaches_p(logits, p, temperature):
    kept = truncation.nucleus(logits, p, temperature).tolist()
    assert kept == ranking(logits)[: len(kept)]
    x = np.exp((logits - logits.max()) / temperature)
    x /= x.sum()
    assert x[kept].sum() >= p - 1e-9
    assert len(kept) == 1 or x[kept[:-1]].sum() < p


@pytest.mark.parametrize(
    ("probabilities", "p", "kept"),
    [
        ((0.5, 0.3, 0.15, 0.05), 0.6, [0, 1]),
        ((0.5, 0.3, 0.15, 0.05), 0.85, [0, 1, 2]),
        ((0.3, 0.1, 0.1, 0.5), 0.8, [3, 0]),  # the sum reaches p exactly: nothing more
        ((0.25, 0.25, 0.25, 0.25), 0.5, [0, 1]),  # ties at the edge: lower ids
        ((0.2, 0.5, 0.3), 1.0, [1, 2, 0]),
        ((0.2, 0.5, 0.3), 0.0, [1]),
    ],
)
def test_nucleus_on_known_sets(probabilities, p, kept):
    assert truncation.nucleus(logs(*probabilities), p).tolist() == kept


def test_temperature_comes_before_the_nucleus():
    logits = np.array([3.0, 2.0, 1.0])
    assert truncation.nucleus(logits, 0.8, 1.0).tolist() == [0, 1]
    assert truncation.nucleus(logits, 0.8, 0.5).tolist() == [0]


@given(LOGITS, st.floats(0, 1), st.sampled_from([0.1, 1.0, 3.0, np.inf]))
def test_min_p_keeps_all_within_a_factor_of_the_best(logits, fraction, temperature):
    kept = truncation.min_p(logits, fraction, temperature).tolist()
    ratio = np.exp((logits - logits.max()) / temperature)
    sure = [i for i in ranking(logits) if ratio[i] >= fraction * (1 + 1e-9)]
    maybe = [i for i in ranking(logits) if ratio[i] >= fraction * (1 - 1e-9)]
    assert kept[0] == ranking(logits)[0]
    assert len(sure) <= len(kept) <= len(maybe)
    assert kept == maybe[: len(kept)]


def test_a_large_vocabulary_is_not_sorted_to_find_a_small_set():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=200_000) * 3
    expected = ranking(logits.tolist())
    assert truncation.top_k(logits, 20).tolist() == expected[:20]
    kept = truncation.nucleus(logits, 0.3)
    assert kept.tolist() == expected[: len(kept)]
