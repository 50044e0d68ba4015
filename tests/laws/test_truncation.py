"""Every law against a loop over its definition, in exact fractions of the weights."""

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann, truncation

# Few distinct values, so that ties are common.
LOGITS = st.lists(st.integers(-30, 30).map(lambda n: n / 2), min_size=1, max_size=60).map(np.array)
TEMPERATURES = st.sampled_from([0.0, 1e-3, 0.1, 0.7, 1.0, 3.0, 1e4, np.inf])
SHARES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1))
NEAR = Fraction(1, 10**12)


def ranking(logits):
    return sorted(range(len(logits)), key=lambda i: (-logits[i], i))


def logs(*probabilities):
    return np.log(np.array(probabilities))


def law(logits, temperature):
    """Probabilities, each float weight as a fraction, so that sums are exact."""
    best = max(logits)
    if temperature == 0:
        weights = [Fraction(int(i == list(logits).index(best))) for i in range(len(logits))]
    elif math.isinf(temperature):
        weights = [Fraction(1)] * len(logits)
    else:
        weights = [Fraction(math.exp((z - best) / temperature)) for z in logits]
    total = sum(weights)
    return [weight / total for weight in weights]


def check(kept, expected, logits, temperature):
    """The set, its order, and the mass that is gone."""
    expected = set(expected)
    assert kept.members.tolist() == sorted(expected)
    assert kept.ids.tolist() == [i for i in ranking(logits) if i in expected]
    p = law(logits, temperature)
    assert kept.removed == pytest.approx(float(1 - sum(p[i] for i in expected)), abs=1e-12)


def first_to_reach(order, p, goal, *, beyond=False):
    total = Fraction(0)
    for count, i in enumerate(order, 1):
        total += p[i]
        if total > goal * (1 + NEAR) if beyond else total >= goal * (1 - NEAR):
            return count
    return len(order)


@given(LOGITS, st.integers(0, 70), TEMPERATURES)
def test_top_k_is_the_head_of_the_ranking(logits, k, temperature):
    check(truncation.top_k(logits, k, temperature), ranking(logits)[: k or None], logits, temperature)


@given(LOGITS, st.integers(1, 70))
def test_top_k_with_all_ties_at_its_edge(logits, k):
    ordered = sorted(logits, reverse=True)
    edge = ordered[min(k, len(ordered)) - 1]
    every = truncation.top_k(logits, k, ties="all").members.tolist()
    assert every == [i for i, z in enumerate(logits) if z >= edge]


@given(LOGITS, SHARES, TEMPERATURES, st.booleans())
def test_nucleus_is_the_smallest_set_that_reaches_p(logits, p, temperature, beyond):
    kept = truncation.nucleus(logits, p, temperature, beyond=beyond)
    order = ranking(logits)
    count = (
        len(order) if p == 1 else first_to_reach(order, law(logits, temperature), Fraction(p), beyond=beyond)
    )
    check(kept, order[:count], logits, temperature)


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
    assert truncation.nucleus(logs(*probabilities), p).ids.tolist() == kept


def test_temperature_comes_before_the_nucleus():
    logits = np.array([3.0, 2.0, 1.0])
    assert truncation.nucleus(logits, 0.8, 1.0).ids.tolist() == [0, 1]
    assert truncation.nucleus(logits, 0.8, 0.5).ids.tolist() == [0]


@given(LOGITS, SHARES, TEMPERATURES)
def test_min_p_keeps_all_within_a_factor_of_the_best(logits, fraction, temperature):
    p = law(logits, temperature)
    expected = [i for i, each in enumerate(p) if each >= Fraction(fraction) * max(p) * (1 - NEAR)]
    check(truncation.min_p(logits, fraction, temperature), expected, logits, temperature)


@given(LOGITS, SHARES, TEMPERATURES)
def test_epsilon_keeps_what_is_probable_enough_and_always_the_best(logits, cutoff, temperature):
    p = law(logits, temperature)
    expected = [i for i, each in enumerate(p) if each >= min(Fraction(cutoff), max(p)) * (1 - NEAR)]
    check(truncation.epsilon(logits, cutoff, temperature), expected, logits, temperature)


def entropy(p):
    return -math.fsum(float(each) * math.log(each) for each in p if each)


@given(LOGITS, SHARES, TEMPERATURES)
def test_eta_lowers_the_cutoff_by_the_entropy(logits, cutoff, temperature):
    p = law(logits, temperature)
    limit = min(cutoff, math.sqrt(cutoff) * math.exp(-entropy(p)))
    kept = truncation.eta(logits, cutoff, temperature)
    # The limit is a rounded number here, so a token this close to it may be on either side.
    sure = {i for i, each in enumerate(p) if each >= limit * (1 + 1e-9) or each == max(p)}
    maybe = {i for i, each in enumerate(p) if each >= limit * (1 - 1e-9) or each == max(p)}
    assert sure <= set(kept.members.tolist()) <= maybe
    check(kept, kept.members.tolist(), logits, temperature)


@given(LOGITS, SHARES, st.sampled_from([0.1, 0.7, 1.0, 3.0, np.inf]), st.booleans())
def test_typical_takes_the_tokens_whose_surprise_is_nearest_to_the_entropy(logits, p, temperature, beyond):
    law_ = law(logits, temperature)
    distance = [abs(-math.log(each) - entropy(law_)) if each else math.inf for each in law_]
    kept = truncation.typical(logits, p, temperature, beyond=beyond)
    check(kept, kept.members.tolist(), logits, temperature)
    inside, outside = kept.members.tolist(), sorted(set(range(len(logits))) - set(kept.members.tolist()))
    if p == 1:
        assert not outside
        return
    if outside:
        assert max(distance[i] for i in inside) <= min(distance[i] for i in outside) + 1e-9
        total = sum(law_[i] for i in inside)
        assert total > Fraction(p) * (1 - NEAR) if beyond else total >= Fraction(p) * (1 - NEAR)
    # Without the farthest of them it would not be reached.
    last = max(inside, key=lambda i: (distance[i], i))
    if len(inside) > 1:
        rest = sum(law_[i] for i in inside) - law_[last]
        assert rest <= Fraction(p) * (1 + NEAR) + Fraction(1, 10**9)


def test_typical_can_leave_the_best_token_out():
    logits = logs(0.4, *[0.6 / 30] * 30)
    kept = truncation.typical(logits, 0.5)
    assert kept.ids.tolist() == list(range(1, 26))
    assert kept.removed == pytest.approx(0.5)
    assert truncation.typical(logits, 0.5, ties="all").ids.tolist() == list(range(1, 31))


@pytest.mark.parametrize(
    ("beyond", "kept"), [(False, [0, 1]), (True, [0, 1, 2])], ids=["reaches", "goes beyond"]
)
def test_typical_where_the_sum_meets_p(beyond, kept):
    assert truncation.typical(logs(0.25, 0.25, 0.25, 0.25), 0.5, beyond=beyond).ids.tolist() == kept


@given(LOGITS, st.one_of(st.just(math.inf), st.floats(0, 4)), TEMPERATURES)
def test_top_n_sigma_keeps_what_is_within_n_deviations_of_the_best(logits, n, temperature):
    mean = math.fsum(logits) / len(logits)
    sigma = math.sqrt(math.fsum((z - mean) ** 2 for z in logits) / len(logits))
    kept = truncation.top_n_sigma(logits, n, temperature)
    sure = {i for i, z in enumerate(logits) if math.isinf(n) or z >= max(logits) - n * sigma + 1e-9}
    maybe = {i for i, z in enumerate(logits) if math.isinf(n) or z >= max(logits) - n * sigma - 1e-9}
    assert sure <= set(kept.members.tolist()) <= maybe
    check(kept, kept.members.tolist(), logits, temperature)


@given(LOGITS, SHARES, TEMPERATURES)
def test_xtc_leaves_of_the_top_choices_only_the_last(logits, threshold, temperature):
    p = law(logits, temperature)
    top = [i for i in ranking(logits) if p[i] >= Fraction(threshold) * (1 - NEAR)]
    expected = set(range(len(logits))) - set(top[:-1])
    check(truncation.xtc(logits, threshold, temperature), expected, logits, temperature)


ALL = [
    ("top_k", truncation.top_k, 0, []),
    ("top_p", truncation.nucleus, 1.0, [-0.1, 1.1, math.nan, True, "0.9"]),
    ("min_p", truncation.min_p, 0.0, [-0.1, 1.1, math.nan]),
    ("epsilon", truncation.epsilon, 0.0, [-0.1, 1.1, math.nan]),
    ("eta", truncation.eta, 0.0, [-0.1, 1.1, math.nan]),
    ("typical_p", truncation.typical, 1.0, [-0.1, 1.1, math.nan]),
    ("top_n_sigma", truncation.top_n_sigma, math.inf, [-0.1, math.nan]),
    ("xtc_threshold", truncation.xtc, 1.0, [-0.1, 1.1, math.nan]),
]


@pytest.mark.parametrize(("param", "cut", "neutral", "bad"), ALL)
def test_a_neutral_value_keeps_all_and_a_bad_one_is_an_error(param, cut, neutral, bad):
    logits = np.array([1.0, 3.0, 2.0, 3.0])
    for temperature in (1e-3, 1.0, math.inf):
        kept = cut(logits, neutral, temperature)
        assert kept.ids.tolist() == [1, 3, 2, 0]
        assert kept.removed == 0
    for value in bad:
        with pytest.raises(InvalidRequest, match=f"{param}: got {value!r}, expected a number, 0 ") as error:
            cut(logits, value)
        assert error.value.param == param
    for temperature in (-1.0, math.nan):
        with pytest.raises(InvalidRequest, match="temperature: got"):
            cut(logits, neutral, temperature)
    for broken in ([1.0, math.nan], [1.0, math.inf], [-math.inf, -math.inf], []):
        with pytest.raises(InvalidRequest, match="logits: got"):
            cut(np.array(broken), neutral)


@pytest.mark.parametrize("k", [-1, 1.5, math.nan, True])
def test_a_k_that_is_no_number_of_tokens_is_an_error(k):
    with pytest.raises(InvalidRequest, match=r"top_k: got .*, expected a whole number, 0 or more"):
        truncation.top_k(np.zeros(3), k)


@pytest.mark.parametrize(("param", "cut", "neutral", "bad"), ALL)
def test_numbers_from_numpy_are_numbers(param, cut, neutral, bad):
    value = np.int64(neutral) if param == "top_k" else np.float32(neutral)
    assert len(cut(np.zeros(3, dtype=np.float32), value).ids) == 3


@settings(deadline=None)
@given(LOGITS, st.integers(1, 60), SHARES, st.sampled_from([0.1, 1.0, np.inf]))
def test_the_best_and_the_mass_are_enough_where_they_hold_the_set(logits, size, p, temperature):
    """A caller with the best tokens and the mass of all gets the same sets from them."""
    head = np.array(ranking(logits)[:size])
    mass = float(np.exp((logits - logits.max()) / temperature).sum())
    for cut, value in (
        (truncation.nucleus, p),
        (truncation.min_p, max(p, 0.01)),
        (truncation.epsilon, max(p, 0.01)),
        (truncation.xtc, max(p, 0.01)),
    ):
        whole = cut(logits, value, temperature)
        if cut is truncation.xtc:  # it takes from the top
            gone = set(range(len(logits))) - set(whole.members.tolist())
            part = cut(logits[head], value, temperature, mass=mass)
            assert len(head) < len(gone) + 1 or set(head) - set(head[part.members]) == gone
        elif len(whole.members) < size:
            part = cut(logits[head], value, temperature, mass=mass)
            assert head[part.ids].tolist() == whole.ids.tolist()
            assert part.removed == pytest.approx(whole.removed, abs=1e-12)


def test_a_cut_off_token_has_no_say():
    """A logit of -inf, from an earlier filter, is no part of the distribution."""
    logits = np.array([-math.inf, 2.0, 1.0, -math.inf, 0.0])
    some = np.array([2.0, 1.0, 0.0])
    for cut, value in (
        (truncation.nucleus, 0.8),
        (truncation.min_p, 0.2),
        (truncation.epsilon, 0.1),
        (truncation.eta, 0.3),
        (truncation.typical, 0.5),
        (truncation.top_n_sigma, 1.5),
        (truncation.top_k, 2),
    ):
        expected = np.array([1, 2, 4])[cut(some, value).ids]
        assert cut(logits, value).ids.tolist() == expected.tolist()
        assert cut(logits, value).removed == pytest.approx(cut(some, value).removed, abs=1e-15)


CUTS = {
    "top_p": truncation.nucleus,
    "beyond top_p": partial(truncation.nucleus, beyond=True),
    "min_p": truncation.min_p,
    "epsilon": truncation.epsilon,
    "eta": truncation.eta,
    "top_n_sigma": truncation.top_n_sigma,
    "xtc": truncation.xtc,
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(LOGITS, st.sets(st.integers(0, 60), min_size=1), st.floats(1e-12, 1 - 1e-12), TEMPERATURES)
def test_a_law_keeps_the_same_with_tokens_between_that_were_cut_off(cut, some, gaps, value, temperature):
    logits = np.insert(some, [min(gap, len(some)) for gap in sorted(gaps)], -math.inf)
    finite = np.flatnonzero(np.isfinite(logits))
    kept, alone = cut(logits, value, temperature), cut(some, value, temperature)
    left_alone = finite[alone.members].tolist()
    if cut is truncation.xtc:  # it takes from the top, and leaves all else
        left_alone = sorted({*left_alone, *np.flatnonzero(np.isneginf(logits)).tolist()})
    assert kept.members.tolist() == left_alone
    assert kept.removed == pytest.approx(alone.removed, abs=1e-14)
    p = boltzmann.probabilities(logits, temperature)
    assert kept.removed == pytest.approx(1 - p[kept.members].sum(), abs=1e-12)


@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("cut", [truncation.nucleus, truncation.typical])
@pytest.mark.parametrize("temperature", [0.0, 1.0, math.inf])
def test_a_large_set_out_of_reach_is_all_that_is_possible(cut, temperature, beyond):
    logits = np.insert(np.random.default_rng(2).normal(size=3000), range(0, 3000, 3), -math.inf)
    kept = cut(logits, 1 - 1e-15, temperature, beyond=beyond)
    assert np.isfinite(logits[kept.members]).all()
    assert kept.removed == pytest.approx(0, abs=1e-11)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0, math.inf])
@pytest.mark.parametrize("p", [0.01, 0.5, 0.9, 0.999, 1 - 1e-6])
@pytest.mark.parametrize("beyond", [False, True])
def test_a_large_set_is_the_same_that_sorting_gives(temperature, p, beyond):
    generator = np.random.default_rng(9)
    for logits in (generator.normal(size=5000) * 2, np.round(generator.normal(size=5000) * 2) / 4):
        x = logits / temperature
        weights = np.exp(x - x.max())
        order = np.argsort(-logits, kind="stable")
        sums = np.cumsum(weights[order]) / weights.sum()
        count = np.searchsorted(sums, p, side="right" if beyond else "left") + 1
        assert (
            truncation.nucleus(logits, p, temperature, beyond=beyond).ids.tolist() == order[:count].tolist()
        )
        surprise = np.abs(x - (weights * x).sum() / weights.sum())
        order = np.argsort(surprise, kind="stable")
        count = np.searchsorted(np.cumsum(weights[order]) / weights.sum(), p) + 1
        kept = truncation.typical(logits, p, temperature).members
        assert np.sort(surprise[kept]) == pytest.approx(np.sort(surprise[order[:count]]), abs=1e-9)


def test_a_large_vocabulary_is_not_sorted_to_find_a_small_set():
    generator = np.random.default_rng(1)
    logits = generator.normal(size=200_000) * 3
    expected = ranking(logits.tolist())
    for k in (1, 20, 3000, 50_000):
        assert truncation.top_k(logits, k).ids.tolist() == expected[:k]
    kept = truncation.nucleus(logits, 0.3).ids
    assert kept.tolist() == expected[: len(kept)]
