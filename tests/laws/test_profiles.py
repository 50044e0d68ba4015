"""Each profile against what its engine's source says: golden vectors, and transformers itself for `hf`.

The vectors are worked out by hand from: vLLM `v1/sample/sampler.py`, `ops/topk_topp_sampler.py`
(`apply_top_k_top_p_pytorch`), `logits_processor/builtin.py` and `sampling_params.py`; SGLang
`srt/layers/sampler.py` (`top_k_top_p_min_p_sampling_from_probs_torch`) and `sampling/sampling_params.py`;
llama.cpp `src/llama-sampler.cpp` and `common/sampling.cpp`. tests/peer/test_llama_sampling.py asks llama.cpp.
"""

import math

import numpy as np
import pytest
import torch
from transformers.generation import logits_process

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann
from thermoscope.laws.filters import Filters
from thermoscope.laws.profiles import PROFILES

OPENAI, HF, VLLM, SGLANG, LLAMA = "openai", "hf", "vllm", "sglang", "llama.cpp"
EVERY = (OPENAI, HF, VLLM, SGLANG, LLAMA)


def logs(*probabilities):
    return np.log(np.array(probabilities))


def kept(profile, logits, **filters):
    return PROFILES[profile].apply(logits, Filters(**filters))[-1].kept.tolist()


FOUR = logs(0.5, 0.3, 0.15, 0.05)


@pytest.mark.parametrize("profile", EVERY)
@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, [0]), (1e-9, [0]), (0.6, [0, 1]), (0.85, [0, 1, 2]), (0.96, [0, 1, 2, 3]), (1.0, [0, 1, 2, 3])],
)
def test_the_token_that_crosses_p_is_kept(profile, p, expected):
    assert kept(profile, FOUR, top_p=p) == expected


@pytest.mark.parametrize("profile", EVERY)
def test_a_sum_that_meets_p_ends_the_set_everywhere_but_in_sglang(profile):
    assert kept(profile, logs(0.3, 0.1, 0.1, 0.5), top_p=0.8) == ([3, 0, 1] if profile == SGLANG else [3, 0])


@pytest.mark.parametrize("profile", EVERY)
def test_temperature_comes_first_everywhere_but_in_llama_cpp(profile):
    expected = [0, 1] if profile == LLAMA else [0]
    assert kept(profile, np.array([3.0, 2.0, 1.0]), top_p=0.8, temperature=0.5) == expected


@pytest.mark.parametrize("profile", EVERY)
def test_top_k_and_the_nucleus_are_cut_one_after_the_other_everywhere_but_in_sglang(profile):
    """0.4 of 0.7 is more than half; 0.4 of 1 is not."""
    expected = [0, 1] if profile == SGLANG else [0]
    assert kept(profile, logs(0.4, 0.3, 0.2, 0.1), top_k=2, top_p=0.5) == expected


@pytest.mark.parametrize("profile", EVERY)
def test_ties_at_the_edge(profile):
    logits = np.array([1.0, 2.0, 1.0, 1.0, 0.0])
    assert kept(profile, logits, top_k=2) == ([1, 0, 2, 3] if profile in (HF, VLLM) else [1, 0])
    assert kept(profile, np.zeros(4), top_p=0.55) == [0, 1, 2]


@pytest.mark.parametrize("profile", EVERY)
def test_greedy_takes_the_lowest_id_of_the_best(profile):
    stages = PROFILES[profile].apply(np.array([1.0, 5.0, 5.0]), Filters(temperature=0, top_p=0.9, top_k=2))
    assert stages[-1].kept.tolist() == [1]
    assert stages[-1].logprobs.tolist() == [0.0]
    assert next(stage.removed for stage in stages if stage.name == "temperature") == 0


@pytest.mark.parametrize("profile", EVERY)
def test_a_tiny_temperature_overflows_nothing(profile):
    logits = np.array([1e3, -1e3, 999.0, 998.0])
    for temperature in (5e-324, 1e-300, 1e-6, 1e-3):
        stages = PROFILES[profile].apply(logits, Filters(temperature=temperature, top_p=0.99))
        assert stages[-1].kept[0] == 0
        assert np.exp(stages[-1].logprobs).sum() == pytest.approx(1)
        if profile != LLAMA:  # there the nucleus has seen T = 1
            assert stages[-1].kept.tolist() == [0]


@pytest.mark.parametrize("profile", EVERY)
def test_an_infinite_temperature_is_uniform_over_what_is_left(profile):
    stages = PROFILES[profile].apply(np.array([5.0, 9.0, 1.0, 2.0]), Filters(temperature=math.inf, top_k=3))
    assert stages[-1].kept.tolist() == [1, 0, 3]
    assert stages[-1].logprobs == pytest.approx([-math.log(3)] * 3)


def test_vllm_takes_min_p_before_the_nucleus():
    logits = logs(0.5, 0.25, 0.15, 0.1)  # min-p takes the last; then 0.75 of 0.9 reaches 0.8
    assert kept(VLLM, logits, min_p=0.25, top_p=0.8) == [0, 1]
    assert kept(HF, logits, min_p=0.25, top_p=0.8) == [0, 1, 2]


def test_small_temperatures_of_vllm_and_sglang():
    logits = np.array([1.0, 0.99])
    assert kept(VLLM, logits, temperature=1e-3, top_p=0.9) == [0, 1]  # as at 0.01: 0.73 and 0.27
    assert kept(OPENAI, logits, temperature=1e-3, top_p=0.9) == [0]
    tied = np.array([1.0, 1.0 - 1e-9])
    assert kept(SGLANG, tied, temperature=9e-7) == [0]
    assert kept(OPENAI, tied, temperature=9e-7) == [0, 1]


def test_typical_ends_in_three_ways():
    logits = np.zeros(4)
    assert kept(OPENAI, logits, typical_p=0.5) == [0, 1]  # the sum meets 0.5
    assert kept(LLAMA, logits, typical_p=0.5) == [0, 1, 2]  # it goes beyond
    assert kept(HF, logits, typical_p=0.5) == [0, 1, 2, 3]  # all are as far from the entropy


def test_llama_cpp_runs_top_n_sigma_and_typical_before_the_nucleus():
    logits = np.random.default_rng(5).normal(size=50) * 3
    filters = Filters(top_n_sigma=2.5, top_k=20, typical_p=0.9, top_p=0.9, min_p=0.05, xtc_probability=1.0)
    names = [stage.name for stage in PROFILES[LLAMA].apply(logits, filters, coin=0.5)]
    assert names == ["top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature"]


def test_in_llama_cpp_top_n_sigma_is_off_at_zero_and_what_it_cuts_counts_on():
    logits = np.array([3.0, 2.0, 1.0, 0.0, -1.0, -2.0, 2.5, 0.5])
    assert kept(LLAMA, logits, top_n_sigma=0.0) == kept(LLAMA, logits)
    assert kept(OPENAI, logits, top_n_sigma=0.0) == [0]
    p = np.exp([3.0, 2.5, 2.0]) / np.exp([3.0, 2.5, 2.0]).sum()
    entropy = -(p * np.log(p)).sum()
    for more, n in (({}, 8), ({"top_k": 5}, 5), ({"top_k": 3}, 3), ({"min_p": 0.01}, 3)):
        filters = Filters(top_n_sigma=1.0, dynatemp_range=0.5, **more)
        last = PROFILES[LLAMA].apply(logits, filters)[-1]
        assert last.kept.tolist() == [0, 6, 1]
        assert -0.5 / np.diff(last.logprobs) == pytest.approx(0.5 + entropy / math.log(n))


@pytest.mark.parametrize("profile", EVERY)
def test_stages_say_what_they_removed_and_leave_a_distribution(profile):
    """Each removes a share of what is in front of it; here against sums over the probabilities."""
    logits = np.random.default_rng(3).normal(size=400) * 2
    filters = Filters(temperature=1.3, top_k=60, top_p=0.8, min_p=0.05)
    before, temperature = np.arange(400), 1.0
    for stage in PROFILES[profile].apply(logits, filters):
        if stage.name == "temperature":
            temperature = 1.3
        p = np.exp(logits / temperature)
        assert stage.removed == pytest.approx(1 - p[stage.kept].sum() / p[before].sum(), abs=1e-12)
        assert np.exp(stage.logprobs) == pytest.approx(p[stage.kept] / p[stage.kept].sum(), rel=1e-9)
        if len(stage.kept) < 400:
            assert (np.diff(logits[stage.kept]) <= 0).all()
        before = stage.kept
    assert len(before) < 60


def test_neutral_filters_leave_the_distribution_alone():
    logits = np.random.default_rng(4).normal(size=30)
    for profile in PROFILES.values():
        (stage,) = profile.apply(logits, Filters())
        assert (stage.name, stage.removed, len(stage.kept)) == ("temperature", 0.0, 30)
        assert stage.logprobs == pytest.approx(boltzmann.log_probabilities(logits))


def test_the_coin_and_mu_decide_whether_xtc_and_mirostat_run():
    logits = logs(0.5, 0.3, 0.15, 0.05)
    filters = Filters(xtc_probability=0.4, xtc_threshold=0.2, mirostat_tau=3.0)
    profile = PROFILES[OPENAI]
    assert profile.apply(logits, filters)[-1].name == "temperature"
    assert profile.apply(logits, filters, coin=0.4)[-1].name == "temperature"
    assert profile.apply(logits, filters, coin=0.39)[-1].kept.tolist() == [1, 2, 3]
    assert profile.apply(logits, filters, mu=2.0)[-1].kept.tolist() == [0, 1]  # at most 2 bits of surprise


@pytest.mark.parametrize(
    ("profile", "filters", "param"),
    [
        (VLLM, {"typical_p": 0.9}, "typical_p"),
        (SGLANG, {"top_n_sigma": 1.0}, "top_n_sigma"),
        (HF, {"xtc_probability": 0.5}, "xtc_probability"),
        (HF, {"dynatemp_range": 0.5}, "dynatemp_range"),
        (LLAMA, {"eta": 1e-3}, "eta"),
        (VLLM, {"mirostat_tau": 5.0}, "mirostat_tau"),
        (LLAMA, {"mirostat_tau": 5.0, "top_k": 40}, "top_k"),
    ],
)
def test_a_filter_that_the_engine_lacks_is_refused(profile, filters, param):
    with pytest.raises(InvalidRequest, match=f"{param}: got .*(no such stage|nothing else)") as error:
        PROFILES[profile].apply(np.zeros(3), Filters(**filters))
    assert error.value.param == param


SETTINGS = [
    {"top_k": 1},
    {"top_k": 10},
    {"top_k": 500},
    {"top_p": 0.0},
    {"top_p": 0.31},
    {"top_p": 0.9},
    {"top_p": 0.97, "temperature": 0.7},
    {"top_p": 0.8, "temperature": 1.7},
    {"top_k": 40, "top_p": 0.93},
    {"top_k": 5, "top_p": 0.61, "temperature": 0.3},
    {"min_p": 0.07},
    {"min_p": 0.2, "temperature": 2.5},
    {"typical_p": 0.21},
    {"typical_p": 0.93, "temperature": 1.2},
    {"epsilon": 3e-3},
    {"eta": 2.0**-9},  # transformers holds it in float32
    {"top_k": 60, "top_p": 0.95, "min_p": 0.02},
    {"top_p": 0.9, "typical_p": 0.8},
    {"top_k": 100, "typical_p": 0.9, "epsilon": 2e-3, "temperature": 1.4},
    {
        "temperature": 0.9,
        "top_k": 80,
        "top_p": 0.97,
        "min_p": 0.01,
        "typical_p": 0.95,
        "epsilon": 1e-3,
        "eta": 2.0**-8,
    },
]
WARPERS = {  # in the order of `generate`, transformers/generation/utils.py
    "temperature": logits_process.TemperatureLogitsWarper,
    "top_k": logits_process.TopKLogitsWarper,
    "top_p": logits_process.TopPLogitsWarper,
    "min_p": logits_process.MinPLogitsWarper,
    "typical_p": logits_process.TypicalLogitsWarper,
    "epsilon": logits_process.EpsilonLogitsWarper,
    "eta": logits_process.EtaLogitsWarper,
}


@pytest.fixture(scope="module")
def rows():
    """1,000 rows of 300 logits, flat and sharp; every fourth is rounded to halves, so that tokens tie."""
    generator = np.random.default_rng(11)
    rows = generator.normal(size=(1000, 300)) * generator.uniform(0.3, 6, size=(1000, 1))
    rows[::4] = np.round(rows[::4] * 2) / 2
    return rows


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_hf_keeps_exactly_what_transformers_keeps(rows, settings):
    """Where tokens tie at the nucleus's edge, torch.sort, which is not stable, decides which of them stay."""
    scores = torch.from_numpy(rows)
    for name, warper in WARPERS.items():
        if name in settings:
            scores = warper(settings[name])(None, scores)
    theirs = torch.isfinite(scores).numpy()
    filters = Filters(**settings)
    for row, expected in zip(rows, theirs, strict=True):
        *_, last = PROFILES[HF].cuts(row, filters)
        assert np.sort(row[last.members]).tolist() == np.sort(row[expected]).tolist()
        if len(np.unique(row)) == len(row):
            assert last.members.tolist() == np.flatnonzero(expected).tolist()
