"""Held against loops over Python floats, on a tiny random model."""

import math

import numpy as np
import pytest

from tests import tiny
from tests.instruments.loops import nucleus, rows, softmax
from thermoscope.instruments._engines import cutting, engines
from thermoscope.instruments._passage import given
from thermoscope.laws.filters import Filters
from thermoscope.laws.profiles import PROFILES

NAMES = ["openai", "hf", "vllm", "sglang", "llama.cpp"]


@pytest.fixture(scope="module")
def lab(tiny_lab):
    return tiny_lab


@pytest.fixture(scope="module")
def passage(lab):
    return given(lab, "Once", "It_was_a_bright_cold_day_in_April.", "text", chat=False)


@pytest.fixture(scope="module")
def logits(lab):
    return lab.last(lab.tokens("Once"))


def kept(name, row, temperature, top_p, top_k):
    """What an engine keeps with the nucleus and perhaps top-k, where no sum meets p and nothing ties."""
    p = softmax(row, 1.0 if name == "llama.cpp" else temperature)
    best = sorted(range(len(p)), key=lambda token: -p[token])[: top_k or None]
    if name == "sglang":  # the nucleus is of the whole distribution
        return set(nucleus(p, top_p)) & set(best)
    total = math.fsum(p[token] for token in best)
    inside = [p[token] / total for token in best]
    return {best[at] for at in nucleus(inside, top_p)}


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("top_k", [0, 9])
def test_each_engine_keeps_what_a_loop_keeps(lab, passage, logits, temperature, top_k):
    filters = Filters(temperature=temperature, top_p=0.8, top_k=top_k)
    reading = engines(lab, passage, logits, filters, 10)
    table = {row["engine"]: row for row in rows(reading.table("engines"))}
    assert list(table) == NAMES == list(PROFILES)
    along = [
        {name: kept(name, row.tolist(), temperature, 0.8, top_k) for name in NAMES}
        for row in passage.rows(lab)
    ]
    here = {name: kept(name, logits.tolist(), temperature, 0.8, top_k) for name in NAMES}
    p = softmax(logits.tolist(), temperature)
    for name, row in table.items():
        assert row["kept"] == len(here[name])
        assert row["mass"] == pytest.approx(math.fsum(p[token] for token in here[name]), abs=1e-12)
        assert row["mean_kept"] == pytest.approx(sum(len(each[name]) for each in along) / len(along))
        assert row["differs"] == sum(each[name] != each["openai"] for each in along)
    assert table["llama.cpp"]["differs"] > 0
    assert (table["sglang"]["differs"] > 0) == (top_k > 0)

    disputed = sorted(
        set.union(*here.values()) - set.intersection(*here.values()), key=lambda token: -p[token]
    )
    found = rows(reading.table("disputed"))
    assert [row["id"] for row in found] == disputed[:10]
    for row in found:
        assert [row[name] for name in NAMES] == [row["id"] in here[name] for name in NAMES]
    differing = rows(reading.table("differing"))
    assert [row["position"] for row in differing] == [
        at for at, each in enumerate(along) if any(each[name] != each["openai"] for name in NAMES)
    ]
    for row in differing:
        assert [row[name] for name in NAMES] == [len(along[row["position"]][name]) for name in NAMES]
    assert reading.passed


def test_the_chain_names_the_stages_that_do_something(lab, passage, logits):
    reading = engines(lab, passage, logits, Filters(top_p=0.8, temperature=0.5), 10)
    chains = {row["engine"]: row["chain"].split(" → ") for row in rows(reading.table("engines"))}
    assert [stage.split()[0] for stage in chains["openai"]] == ["temperature", "top_p"]
    assert [stage.split()[0] for stage in chains["llama.cpp"]] == ["top_p", "temperature"]
    assert chains["openai"][0] == f"temperature {tiny.VOCAB}"
    removed = {(row["engine"], row["stage"]): row["removed"] for row in rows(reading.table("stages"))}
    assert removed["openai", "temperature"] == 0
    p = softmax(logits.tolist(), 0.5)
    outside = 1 - math.fsum(p[token] for token in nucleus(p, 0.8))
    assert removed["openai", "top_p"] == pytest.approx(outside, abs=1e-12)


def test_where_all_agree_nothing_is_disputed(lab, passage, logits):
    reading = engines(lab, passage, logits, Filters(top_p=0.9), 10)
    assert {table.name for table in reading.tables} == {"engines", "stages"}
    assert not reading.figures
    (finding,) = reading.findings
    assert finding.endswith("in openai, hf, vllm, sglang, llama.cpp.")


def test_a_setting_that_every_engine_takes_for_off_is_not_named():
    filters = Filters(top_p=0.9, top_n_sigma=0.0, xtc_probability=0.5)
    llama, here = PROFILES["llama.cpp"], PROFILES["openai"]
    assert cutting(filters, [llama]) == ["top_p", "xtc_probability"]
    assert cutting(filters, [llama, here]) == ["top_n_sigma", "top_p", "xtc_probability"]
    assert cutting(Filters(), [llama, here]) == []


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        (Filters(temperature=0.0), 1),
        (Filters(temperature=0.0, top_k=5, top_p=0.5, min_p=0.1), 1),
        (Filters(temperature=math.inf, top_p=0.5), 48),
        (Filters(temperature=math.inf, top_k=10, top_p=0.5), 5),
        (Filters(temperature=1e-300, top_p=0.5), 1),
        (Filters(top_p=0.0), 1),
        (Filters(top_k=10**9), 96),
        (Filters(min_p=1.0), 1),
    ],
)
def test_the_ends_are_values(lab, passage, logits, filters, kept):
    reading = engines(lab, passage, logits, filters, 10)
    assert rows(reading.table("engines"))[0]["kept"] == kept
    assert reading.passed


def test_ties_at_the_edge_are_kept_by_hf_and_vllm_alone(lab, passage):
    z = np.zeros(tiny.VOCAB)
    z[7] = 1.0
    reading = engines(lab, passage, z, Filters(top_k=3), 5)
    table = {row["engine"]: row["kept"] for row in rows(reading.table("engines"))}
    assert table == {"openai": 3, "hf": 96, "vllm": 96, "sglang": 3, "llama.cpp": 3}
    disputed = reading.table("disputed")
    assert disputed.title.startswith("Next tokens that only some engines keep: 5 of 93")
