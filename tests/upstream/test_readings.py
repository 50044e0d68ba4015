"""Readings of another server, whose whole distributions are at hand here: every bound holds the truth."""

import math

import numpy as np
import pytest

from thermoscope import instruments
from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.lab import Lab
from thermoscope.laws import boltzmann, truncation

PROMPT = "abc"
TEMPERATURES = [0.0, 0.3, 1.0, 1.8, math.inf]
SLACK = 1e-4  # the upstream rounds to float32


@pytest.fixture
def far(upstream):
    return Lab.of(upstream, watch=lambda _: None)


def take(card, lab, **settings):
    instrument = instruments.instrument(card)
    return instrument.read(instrument.settings.parse({"prompt": PROMPT, "chat": True} | settings), lab)


def rows(reading, table):
    return reading.to_dict()["tables"][table]["rows"]


def holds(row, key, value):
    low, high = float(row[f"{key}_low"]), float(row[f"{key}_high"])
    return low - SLACK <= value <= high + SLACK


def test_temperature(far, truth):
    z = truth(PROMPT)
    reading = take("temperature", far, temperatures=TEMPERATURES, samples=2, max_tokens=4)
    assert reading.passed
    assert reading.model["name"] == far.upstream.name
    for row in rows(reading, "temperatures"):
        temperature = float(row["temperature"])
        entropy = float(boltzmann.thermodynamics(z, temperature).entropy)
        assert holds(row, "entropy", entropy)
        assert holds(row, "perplexity", math.exp(entropy))
        assert holds(row, "top_probability", boltzmann.probabilities(z, temperature).max())
    log_p = np.sort(boltzmann.log_probabilities(z))[::-1]
    p = np.sort(boltzmann.probabilities(z, 0.3))[::-1]
    for rank, row in enumerate(rows(reading, "distribution")):
        assert row["log_p"] == pytest.approx(log_p[rank], abs=SLACK)
        assert holds(row, "p_0.3", p[rank])
    said = rows(reading, "continuations")
    assert [row["temperature"] for row in said] == [0, 0.3, 0.3, 1, 1, 1.8, 1.8]
    assert any("inf" in remark for remark in reading.notes)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("top_p", [0.0, 0.3, 0.9, 1.0])
def test_nucleus(far, truth, temperature, top_p):
    z = truth(PROMPT)
    reading = take("nucleus", far, temperature=temperature, top_p=top_p, max_tokens=3)
    assert reading.passed
    kept = truncation.nucleus(z, top_p, temperature).ids
    (row,) = rows(reading, "next")
    assert row["size_low"] <= len(kept) <= float(row["size_high"])
    assert holds(row, "entropy", float(boltzmann.thermodynamics(z, temperature).entropy))
    for row in rows(reading, "tokens"):
        assert row["kept"] in (None, row["rank"] <= len(kept))
    for row in rows(reading, "along"):
        assert row["size_low"] <= float(row["size_high"])


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 2.0])
def test_boltzmann(far, truth, temperature):
    z = truth(PROMPT)
    reading = take("boltzmann", far, temperature=temperature)
    assert reading.passed
    exact = boltzmann.thermodynamics(z, temperature)
    weights = np.exp(boltzmann.exponents_of(np.sort(z)[::-1], temperature))
    (whole,) = rows(reading, "whole")
    assert holds(whole, "z", weights.sum())
    assert holds(whole, "entropy", float(exact.entropy))
    assert holds(whole, "ts", float(exact.energy - exact.free_energy) if temperature else 0.0)
    for rank, row in enumerate(rows(reading, "two")):
        assert row["weight"] == pytest.approx(weights[rank], abs=SLACK)
        assert row["gap"] == pytest.approx(np.sort(z)[-1] - np.sort(z)[-1 - rank], abs=SLACK)
        assert holds(row, "boltzmann", weights[rank] / weights.sum())


@pytest.mark.parametrize(
    ("card", "given"),
    [
        ("temperature", {"entropy": 1.0}),
        ("temperature", {"top_probability": 0.5}),
        ("nucleus", {"text": "x"}),
        ("nucleus", {"min_p": 0.5}),
        ("boltzmann", {"classes": ["x"]}),
        ("boltzmann", {"gauge": 1.0}),
    ],
)
def test_what_needs_the_local_engine_says_why(far, card, given):
    with pytest.raises(InvalidRequest, match="needs the local engine, because") as refused:
        take(card, far, **given)
    assert refused.value.param == next(iter(given))


@pytest.mark.parametrize("card", ["prompting", "reasoning"])
def test_a_card_that_looks_inside_needs_the_local_engine(far, card):
    instrument = instruments.instrument(card)
    settings = {"prompt": "a", "input": "b"} if card == "prompting" else {"prompt": "a"}
    with pytest.raises(InvalidRequest, match=f"{card}: needs the local engine, because it"):
        instrument.read(instrument.settings.parse(settings), far)


def test_a_card_without_a_model_is_as_ever(far):
    instrument = instruments.instrument("memory")
    reading = instrument.read(instrument.settings.parse({"model": "smollm2-135m"}), far)
    assert reading.model is None
