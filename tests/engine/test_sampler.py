"""The sampler against a slow reference in exact and plain Python, and its draws against the law."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscope.engine.adjustments import Adjustments
from thermoscope.engine.request import Sampling
from thermoscope.engine.sampler import ALTERNATIVES, Sampler
from thermoscope.errors import ThermoscopeError
from thermoscope.laws import boltzmann, noise


class Words:
    """As much of a tokenizer as a record needs."""

    def piece(self, token):
        return f"<{token}>"


def sampler(seed=0, choice=0, prompt=(), **fields):
    return Sampler(Sampling(**fields), seed=seed, choice=choice, prompt=prompt)


def draw(logits, position=0, *, record=True, **fields):
    row = np.array(logits, dtype=np.float32)
    return sampler(**fields).draw(row, position, Words() if record else None)


# --- the reference: one stage after the other, tokens as (logit, id), sums as fractions of float weights


def adjusted(logits, prompt, said, s):
    z = [float(np.float32(logit)) for logit in logits]
    for token in {*prompt, *said}:
        z[token] = z[token] / s.repetition_penalty if z[token] > 0 else z[token] * s.repetition_penalty
    for token in set(said):
        z[token] -= s.presence_penalty + s.frequency_penalty * said.count(token)
    for token, bias in s.logit_bias.items():
        z[token] += bias
    return z


def weights_of(z, ids, temperature):
    """Boltzmann weights, each float as a fraction, so that sums are exact."""
    best = max(z[token] for token in ids)
    if temperature == 0:
        return {token: Fraction(int(token == min(t for t in ids if z[t] == best))) for token in ids}
    if math.isinf(temperature):
        return {token: Fraction(1) for token in ids}
    return {token: Fraction(math.exp((z[token] - best) / temperature)) for token in ids}


def left_over(z, s):
    """Ids after top-k, nucleus and min-p, best first; each on what the one before left."""
    ids = sorted(range(len(z)), key=lambda token: (-z[token], token))
    if s.temperature == 0:
        return ids[:1]
    if s.top_k:
        ids = ids[: s.top_k]
    near = Fraction(1, 10**12)  # float sums miss round numbers; on either side of one, both answers hold
    if s.top_p < 1:
        weights = weights_of(z, ids, s.temperature)
        goal, reached, size = Fraction(s.top_p) * sum(weights.values()) * (1 - near), Fraction(0), 0
        for token in ids:
            reached, size = reached + weights[token], size + 1
            if reached >= goal:
                break
        ids = ids[:size]
    if s.min_p:
        weights = weights_of(z, ids, s.temperature)
        ids = [token for token in ids if weights[token] >= Fraction(s.min_p) * (1 - near)]
    return ids


QUARTERS = st.integers(-24, 24).map(lambda n: n / 4)  # exact in float32, and full of ties
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 1e-3, 0.25, 0.7, 1.0, 3.0, 1e6, math.inf]),
        "top_k": st.integers(0, 12),
        "top_p": st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 0.95, 1.0]),
        "min_p": st.sampled_from([0.0, 0.05, 0.3, 1.0]),
        "repetition_penalty": st.sampled_from([0.5, 1.0, 2.0, 4.0]),
        "presence_penalty": st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
        "frequency_penalty": st.sampled_from([-0.5, 0.0, 0.25, 2.0]),
        "logit_bias": st.dictionaries(st.integers(0, 3), QUARTERS, max_size=3),
    },
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(QUARTERS, min_size=9, max_size=9), min_size=1, max_size=5),
    SETTINGS,
    st.lists(st.integers(0, 8), max_size=4),
    st.integers(0, 2**64 - 1),
)
def test_every_stage_in_its_order_gives_what_a_slow_reference_gives(rows, fields, prompt, seed):
    s = Sampling(**fields)
    drawer = Sampler(s, seed=seed, choice=3, prompt=tuple(prompt))
    said = []
    for position, row in enumerate(rows):
        z = adjusted(row, prompt, said, s)
        kept = left_over(z, s)
        token, record = drawer.draw(np.array(row, dtype=np.float32), position, Words())
        every = weights_of(z, range(len(z)), s.temperature)
        total, mass = sum(every.values()), sum(every[each] for each in kept)
        assert record.kept == len(kept)
        assert token in kept
        assert record.removed_mass == pytest.approx(float(1 - mass / total), abs=1e-12)
        for other in record.alternatives:
            share = every[other.token] / mass if other.token in kept else 0
            expected = math.log(share) if share else -math.inf
            if not share and other.token in kept:  # its weight is too small for a float, its logarithm is not
                expected = (z[other.token] - max(z)) / s.temperature - math.log(mass)
            assert other.sampler_logprob == pytest.approx(expected, abs=1e-9)
        if s.temperature == 0:
            assert token == kept[0]
        else:
            dice = noise.gumbel(seed, 3, position, np.arange(len(z)))
            score = {each: (z[each] - max(z)) / s.temperature + dice[each] for each in kept}
            assert token == max(kept, key=score.__getitem__)
        said.append(token)


@pytest.mark.parametrize("top_k", [0, 5, 20, 21, 50, 200, 399, 400, 5000])
@pytest.mark.parametrize("top_p", [0.2, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("min_p", [0.0, 0.02])
def test_truncation_that_keeps_more_than_the_record_shows_is_right_too(top_k, top_p, min_p):
    """The best 20 are at hand; whoever needs more must not be content with them."""
    row = np.random.default_rng(3).standard_normal(400).astype(np.float32)
    s = Sampling(temperature=1.3, top_k=top_k, top_p=top_p, min_p=min_p)
    z = row.astype(float).tolist()
    kept = left_over(z, s)
    _, record = Sampler(s, seed=1, choice=0, prompt=()).draw(row, 0, Words())
    every = weights_of(z, range(400), s.temperature)
    assert record.kept == len(kept)
    expected = 1 - sum(every[each] for each in kept) / sum(every.values())
    assert record.removed_mass == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-45, 1e-38])
def test_a_tiny_temperature_is_a_greedy_draw_in_a_large_vocabulary(temperature):
    row = np.random.default_rng(4).standard_normal(3000).astype(np.float32)
    token, record = Sampler(Sampling(temperature=temperature, top_p=0.9), seed=1, choice=0, prompt=()).draw(
        row, 0, Words()
    )
    assert (token, record.kept, record.sampler_logprob, record.removed_mass) == (row.argmax(), 1, 0.0, 0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-40, 40, width=32), min_size=2, max_size=40), st.sampled_from([0.0, 0.6, 1.0, 2.0]))
def test_a_record_is_the_raw_law_computed_directly(logits, temperature):
    token, record = draw(logits, temperature=temperature, seed=4, top_p=0.9, logit_bias={1: 3.0})
    log_z = math.log(math.fsum(math.exp(z) for z in logits))
    law = [z - log_z for z in logits]
    assert record.log_z == pytest.approx(log_z, abs=1e-9)
    assert record.logprob == pytest.approx(law[token], abs=1e-9)
    assert record.entropy == pytest.approx(-math.fsum(p * math.exp(p) for p in law), abs=1e-9)
    ranked = sorted(range(len(logits)), key=lambda each: (-logits[each], each))[:ALTERNATIVES]
    assert [other.token for other in record.alternatives] == ranked
    assert [other.text for other in record.alternatives] == [f"<{each}>" for each in ranked]
    for other in record.alternatives:
        assert other.logprob == pytest.approx(law[other.token], abs=1e-9)


def test_twenty_alternatives_are_shown_and_the_chosen_one_even_if_it_is_none_of_them():
    logits = [float(-each) for each in range(100)]
    token, record = draw(logits, logit_bias={77: 100.0})
    assert len(record.alternatives) == 20
    assert token == 77
    assert record.logprob == pytest.approx(-77 - record.log_z)
    assert record.sampler_logprob == pytest.approx(math.log1p(-math.exp(-22.5)), abs=1e-8)


@pytest.mark.parametrize("count", [3, 20, 21, 70, 500])
def test_as_many_alternatives_as_are_asked_for(count):
    row = np.random.default_rng(5).normal(size=100).astype(np.float32).round(1)  # with ties
    sampler = Sampler(Sampling(top_k=30), seed=1, choice=0, prompt=(), alternatives=count)
    _, record = sampler.draw(row, 0, Words())
    ranked = sorted(range(100), key=lambda token: (-row[token], token))
    assert [other.token for other in record.alternatives] == ranked[:count]
    for at, other in enumerate(record.alternatives):
        assert other.logprob == pytest.approx(float(row[other.token]) - record.log_z, abs=1e-6)
        assert (other.sampler_logprob > -math.inf) == (at < 30)


@pytest.mark.parametrize("fields", [{}, {"top_k": 2}, {"top_p": 0.3}, {"min_p": 0.5}])
def test_greedy_takes_the_best_and_of_equals_the_lowest_id(fields):
    for seed in range(20):
        token, record = draw([1, 5, 5, 2, 5], temperature=0, seed=seed, **fields)
        assert token == 1
        assert (record.kept, record.removed_mass, record.sampler_logprob) == (1, 0.0, 0.0)
        assert record.logprob < -1
        assert {other.sampler_logprob for other in record.alternatives if other.token != 1} == {-math.inf}


def test_infinite_temperature_is_uniform_over_what_truncation_left():
    _, record = draw([9, 1, 8, 0, 7, -50], temperature=math.inf, top_k=3)
    shown = {other.token: other.sampler_logprob for other in record.alternatives}
    assert record.kept == 3
    assert [shown[token] for token in (0, 2, 4)] == pytest.approx([-math.log(3)] * 3)
    assert [shown[token] for token in (1, 3, 5)] == [-math.inf] * 3
    assert record.removed_mass == pytest.approx(0.5)


@pytest.mark.parametrize("temperature", [5e-324, 1e-310, 1e-30, 1e-9])
def test_a_tiny_temperature_is_nearly_greedy_and_keeps_ties_fair(temperature):
    drawn = [draw([3, 700, -2, 700], temperature=temperature, seed=seed)[0] for seed in range(400)]
    assert set(drawn) == {1, 3}
    assert 140 < drawn.count(1) < 260  # 6 sigma


@pytest.mark.parametrize(
    ("fields", "law"),
    [
        ({}, lambda p: p),
        ({"temperature": 0.5}, lambda p: p**2),
        ({"temperature": 2.0}, np.sqrt),
        ({"temperature": math.inf}, np.ones_like),
        ({"temperature": math.inf, "top_k": 3}, lambda p: (p >= 0.1).astype(float)),
        ({"top_k": 4}, lambda p: p * (p >= 0.08)),
        ({"top_p": 0.75}, lambda p: p * (p >= 0.1)),
        ({"min_p": 0.5}, lambda p: p * (p >= 0.225)),
        ({"logit_bias": {0: math.log(2)}}, lambda p: p * np.array([2, 1, 1, 1, 1, 1])),
    ],
    ids=["plain", "cold", "hot", "infinite", "infinite-top-k", "top-k", "top-p", "min-p", "bias"],
)
def test_draws_follow_the_law(fields, law):
    p = np.array([0.45, 0.25, 0.1, 0.08, 0.07, 0.05])
    draws = 6_000
    drawer = sampler(seed=77, **fields)
    row = np.log(p).astype(np.float32)
    counts = np.zeros(6)
    for position in range(draws):
        counts[drawer.draw(row, position, None)[0]] += 1
    expected = law(p)
    expected = draws * expected / expected.sum()
    possible = expected > 0
    assert (counts[~possible] == 0).all()
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    # 99.9% points of chi-square for 0 to 5 degrees of freedom; the draws are fixed
    assert chi_square <= (1e-9, 10.83, 13.82, 16.27, 18.47, 20.52)[possible.sum() - 1]


def test_seeds_choices_and_positions_give_independent_draws():
    logits, draws = [0.0, 0.0], {}
    for name, keys in {
        "seed": [(seed, 0, 0) for seed in range(4000)],
        "choice": [(1, choice, 0) for choice in range(4000)],
        "position": [(1, 0, position) for position in range(4000)],
    }.items():
        draws[name] = [draw(logits, at, seed=s, choice=c, record=False)[0] for s, c, at in keys]
        ones = sum(draws[name])
        pairs = sum(a == b for a, b in zip(draws[name], draws[name][1:], strict=False))
        assert abs(ones - 2000) < 4 * math.sqrt(1000)
        assert abs(pairs - 2000) < 4 * math.sqrt(1000)
    assert draws["seed"] != draws["choice"] != draws["position"]


@pytest.mark.parametrize("filtered", [{"top_k": 5}, {"top_p": 0.7}, {"min_p": 0.1}])
def test_filtering_a_token_does_not_change_the_noise_of_the_others(filtered):
    logits = np.random.default_rng(1).normal(0, 2, 30).astype(np.float32)
    same = 0
    for seed in range(200):
        free, _ = draw(logits, seed=seed)
        cut, record = draw(logits, seed=seed, **filtered)
        dice = noise.gumbel(seed, 0, 0, np.arange(30))
        kept = [other.token for other in record.alternatives if other.sampler_logprob > -math.inf]
        assert len(kept) == record.kept
        assert cut == max(kept, key=lambda token: logits[token] + dice[token])
        if free in kept:
            assert cut == free
            same += 1
    assert 0 < same < 200


def test_recording_changes_no_draw():
    logits = np.random.default_rng(2).normal(0, 2, 50)
    fields = {"temperature": 1.3, "top_p": 0.9, "presence_penalty": 1.0, "seed": 9}
    watched, plain = sampler(**fields), sampler(**fields)
    for position in range(50):
        row = logits.astype(np.float32)
        assert watched.draw(row, position, Words())[0] == plain.draw(row, position, None)[0]


def test_the_models_own_logits_are_left_as_they_are():
    row = np.array([1, 2, 3, 4], dtype=np.float32)
    drawer = sampler(repetition_penalty=2.0, presence_penalty=1.0, logit_bias={0: 5.0}, prompt=(1, 3))
    for position in range(3):
        drawer.draw(row, position, Words())
    assert row.tolist() == [1, 2, 3, 4]


def test_a_prompt_counts_for_repetition_and_not_for_presence_or_frequency():
    assert draw([2.0, 1.5], temperature=0, prompt=(0,), repetition_penalty=2.0)[0] == 1
    assert draw([2.0, 1.5], temperature=0, prompt=(0,), presence_penalty=2.0)[0] == 0
    assert draw([2.0, 1.5], temperature=0, prompt=(0,), frequency_penalty=2.0)[0] == 0


@pytest.mark.parametrize("top_k", [3, 4, 10**6])
def test_a_top_k_of_the_vocabulary_or_more_keeps_all(top_k):
    token, record = draw([1, 2, 3], top_k=top_k, seed=5)
    assert record.kept == 3
    assert record.removed_mass == 0
    assert token == draw([1, 2, 3], seed=5)[0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("fields", [{}, {"temperature": 0.0}, {"top_p": 0.5}, {"record": False}])
def test_logits_that_are_no_numbers_are_a_clear_error(bad, fields):
    with pytest.raises(ThermoscopeError, match="logits: got NaN or infinity, expected numbers"):
        draw([1.0, bad, 2.0], **fields)


PROFILED = [
    {"profile": "hf", "top_k": 3, "top_p": 0.9, "typical_p": 0.9, "epsilon": 0.02, "eta": 0.1},
    {"profile": "vllm", "min_p": 0.1, "top_p": 0.8, "temperature": 0.7},
    {"profile": "sglang", "top_k": 4, "top_p": 0.5, "min_p": 0.05},
    {"profile": "llama.cpp", "top_p": 0.8, "temperature": 0.7},
    {"profile": "llama.cpp", "temperature": 0.0, "xtc_probability": 1.0, "top_k": 5},
    {"profile": "llama.cpp", "dynatemp_range": 0.5, "top_n_sigma": 1.0, "typical_p": 0.8},
    {"typical_p": 0.6, "temperature": 1.4},
    {"epsilon": 0.05},
    {"eta": 0.2, "top_k": 30},
    {"top_n_sigma": 1.5},
    {"xtc_probability": 0.5, "xtc_threshold": 0.08},
    {"dynatemp_range": 0.7, "dynatemp_exponent": 1.5, "temperature": 1.2},
    {"dynatemp_range": 1.0, "top_p": 0.7, "presence_penalty": 0.5},
    {"temperature": 0.0, "typical_p": 0.5},
]


@pytest.mark.parametrize("fields", PROFILED, ids=str)
@pytest.mark.parametrize("size", [30, 2500])
def test_a_draw_is_of_what_the_profile_leaves(fields, size):
    """The profile sees every logit and ranks every set here; the sampler does so only where it must."""
    s = Sampling(**fields)
    generator = np.random.default_rng(size)
    drawer = Sampler(s, seed=11, choice=2, prompt=())
    reference = Adjustments(s, ())
    for position in range(30):
        row = (generator.standard_normal(size) * generator.uniform(0.3, 4)).astype(np.float32)
        if position % 3 == 0:
            row = np.round(row * 2) / 2  # ties
        z = reference.apply(row).all
        stages = s.engine.apply(z, s.filters, coin=noise.coin(11, 2, position))
        kept, logprobs = (
            stages[-1].kept,
            dict(zip(stages[-1].kept.tolist(), stages[-1].logprobs, strict=True)),
        )
        token, record = drawer.draw(row, position, Words())
        dice = noise.gumbel(11, 2, position, kept)
        assert token == kept[(stages[-1].logprobs + dice).argmax()]
        assert record.kept == len(kept)
        assert record.sampler_logprob == pytest.approx(logprobs[token], abs=1e-9)
        for other in record.alternatives:
            assert other.sampler_logprob == pytest.approx(logprobs.get(other.token, -math.inf), abs=1e-9)
        gone = 1 - math.prod(1 - stage.removed for stage in stages)
        assert record.removed_mass == pytest.approx(gone, abs=1e-10)
        reference.say(token)


@pytest.mark.parametrize(
    "fields",
    [{"repetition_penalty": 1.3, "frequency_penalty": 0.5}, {"logit_bias": {3: 40.0, 1999: -40.0}}],
    ids=str,
)
@pytest.mark.parametrize("temperature", [1e-3, 0.7, 1.0, math.inf])
def test_penalties_in_a_large_vocabulary_give_what_all_logits_give(fields, temperature):
    """The mass and the best come from the row's own and the few that changed; here from all of them."""
    s = Sampling(temperature=temperature, **fields)
    generator = np.random.default_rng(5)
    drawer, reference = Sampler(s, seed=3, choice=0, prompt=(1, 2)), Adjustments(s, (1, 2))
    for position in range(60):
        row = (generator.standard_normal(2000) * 4).astype(np.float32)
        z = reference.apply(row).all
        law = boltzmann.log_probabilities(z, temperature)
        token, record = drawer.draw(row, position, Words())
        with np.errstate(over="ignore"):
            scores = (z - z.max()) / temperature + noise.gumbel(3, 0, position, np.arange(2000))
        assert token == scores.argmax()
        assert record.sampler_logprob == pytest.approx(law[token], abs=1e-9)
        for other in record.alternatives:
            assert other.sampler_logprob == pytest.approx(law[other.token], abs=1e-9)
        reference.say(token)


@pytest.mark.parametrize("profile", ["openai", "llama.cpp"])
def test_mirostat_steers_the_mean_surprise_to_its_target(profile):
    """In bits, of the distribution that it found (openai) or left (llama.cpp)."""
    row = (-1.1 * np.log(np.arange(1, 3001))).astype(np.float32)
    drawer = sampler(profile=profile, mirostat_tau=4.0, seed=8)
    surprises = []
    for position in range(1500):
        _, record = drawer.draw(row, position, Words())
        logprob = record.logprob if profile == "openai" else record.sampler_logprob
        surprises.append(-logprob / math.log(2))
    assert np.mean(surprises) == pytest.approx(4.0, abs=0.1)
    assert np.mean(surprises[:20]) == pytest.approx(4.0, abs=2.0)


def test_mirostat_is_the_same_with_and_without_a_record():
    row = np.random.default_rng(2).normal(0, 2, 500).astype(np.float32)
    watched, plain = (sampler(mirostat_tau=3.0, seed=9) for _ in range(2))
    for position in range(50):
        assert watched.draw(row, position, Words())[0] == plain.draw(row, position, None)[0]


def test_xtc_s_coin_falls_as_often_as_asked_and_belongs_to_the_place():
    row = np.log([0.5, 0.3, 0.2]).astype(np.float32)
    drawer = sampler(xtc_probability=0.3, xtc_threshold=0.25, seed=4)
    kept = [drawer.draw(row, position, Words())[1].kept for position in range(2000)]
    assert abs(kept.count(2) - 600) < 4 * math.sqrt(2000 * 0.3 * 0.7)
    again = sampler(xtc_probability=0.3, xtc_threshold=0.25, seed=4)
    assert [again.draw(row, position, Words())[1].kept for position in range(1999, 1989, -1)] == kept[
        :1989:-1
    ]


@pytest.mark.parametrize("profile", ["openai", "hf", "vllm", "sglang", "llama.cpp"])
def test_logprobs_are_raw_and_those_of_the_sampler_of_what_was_drawn_from(profile):
    """Raw at any temperature; one cannot be had from the other, so both are recorded."""
    row = [2.0, 1.0, 0.0]
    _, record = draw(row, temperature=0.5, top_p=0.9, profile=profile)
    log_z = math.log(sum(math.exp(z) for z in row))
    assert [other.logprob for other in record.alternatives] == pytest.approx([z - log_z for z in row])
    kept = [
        0,
        1,
    ]  # 0.87 and 0.12 at T = 0.5, where the others cut; 0.67 and 0.24 at T = 1, where llama.cpp does
    tempered = [2 * row[each] - math.log(sum(math.exp(2 * row[i]) for i in kept)) for each in kept]
    assert [other.sampler_logprob for other in record.alternatives] == pytest.approx([*tempered, -math.inf])


@pytest.mark.parametrize("profile", ["openai", "hf", "vllm", "sglang", "llama.cpp"])
def test_tokens_far_down_the_tail_are_drawn_as_often_as_they_should_be(profile):
    """17.5 nats below the best, where 24-bit noise ends, 400,000 of them together come at 1% of places."""
    row = np.full(400_001, -17.5, dtype=np.float32)
    row[0] = 0.0
    drawer = sampler(profile=profile, seed=6)
    rate = 400_000 * math.exp(-17.5) / (1 + 400_000 * math.exp(-17.5))
    places = 800
    seen = sum(drawer.draw(row, position, None)[0] > 0 for position in range(places))
    assert 0 < seen < places * rate + 4 * math.sqrt(places * rate)


@pytest.mark.parametrize("profile", ["openai", "llama.cpp"])
@pytest.mark.parametrize(
    "fields",
    [{}, {"temperature": 0.0}, {"temperature": 2.0}, {"dynatemp_range": 1.0, "dynatemp_exponent": 600.0}],
    ids=str,
)
def test_a_coin_that_never_falls_is_no_xtc(profile, fields):
    """Its filter is the first and cuts nothing, so the draw is of all tokens and not of the 20 in hand.

    The 20 may even say another temperature: of these logits, most of the entropy is in the others.
    """
    row = np.zeros(400, dtype=np.float32)
    row[7] = 5.0
    for seed in range(40):
        plain = sampler(seed=seed, profile=profile, **fields).draw(row, 0, Words())
        missed = sampler(seed=seed, profile=profile, xtc_probability=1e-9, **fields).draw(row, 0, Words())
        assert missed[0] == plain[0]
        assert (missed[1].kept, missed[1].removed_mass) == (plain[1].kept, plain[1].removed_mass)
        assert missed[1].sampler_logprob == pytest.approx(plain[1].sampler_logprob, abs=1e-12)


@pytest.mark.parametrize(
    "fields", [{}, {"temperature": 0.6, "top_p": 0.9}, {"temperature": 0}, {"temperature": math.inf}]
)
@pytest.mark.parametrize("taken", [0, 1, 90, 2000])
def test_a_mask_that_takes_little_is_the_same_as_one_that_takes_much(fields, taken):
    """Few taken tokens are subtracted from the sums of all, many are left out of new ones."""
    rng = np.random.default_rng(5)
    row = rng.normal(0, 3, 5000).astype(np.float32)
    allowed = np.sort(rng.permutation(5000)[taken:])
    for position in range(20):
        token, record = sampler(**fields).draw(row, position, Words(), allowed=allowed)
        _, of_alone = sampler(**fields, logit_bias={0: 0.0}).draw(row[allowed], position, Words())
        log_z = float(np.logaddexp.reduce(row[allowed].astype(np.float64)))
        whole = float(np.logaddexp.reduce(row.astype(np.float64)))
        assert record.constraint.work == pytest.approx(whole - log_z, abs=1e-9)
        assert record.constraint.allowed == len(allowed)
        assert token in allowed
        assert record.kept == of_alone.kept
        assert record.removed_mass == pytest.approx(of_alone.removed_mass, abs=1e-9)
        z = row[allowed].astype(np.float64)
        if not fields:
            assert record.sampler_logprob == pytest.approx(float(row[token]) - log_z, abs=1e-9)
        if fields.get("temperature") == 0:
            assert token == allowed[z.argmax()]
        if fields.get("temperature") == math.inf:
            assert record.sampler_logprob == pytest.approx(-math.log(len(allowed)), abs=1e-9)
