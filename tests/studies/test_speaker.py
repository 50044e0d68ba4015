"""Many requests at once: each says what it says alone, and those that nobody waits for stop."""

import pytest

import thermoscope as ts
from benchmarks.studies.speaker import answers, seed
from thermoscope.engine.request import Request, Sampling


@pytest.fixture(scope="module")
def lm(smollm2):
    with ts.load(str(smollm2), context=64, slots=4) as loaded:
        yield loaded


def requests(lm, count, tokens):
    prompt = lm.tokenizer.prompt("Once upon a time")
    return {
        ("x", number): Request(prompt=prompt, sampling=Sampling(seed=seed("x", number), max_tokens=tokens))
        for number in range(count)
    }


def test_seeds_are_63_bits_and_all_differ():
    seeds = {seed(setting, passage) for setting in (0.1, 0.2, "greedy") for passage in range(1000)}
    assert len(seeds) == 3000
    assert 0 <= min(seeds) < 2**60 < max(seeds) < 2**63


def test_every_answer_is_what_it_would_be_alone(lm):
    asked = requests(lm, 11, 6)
    together = {key: trace.tokens for key, trace in answers(lm, asked)}
    assert together.keys() == asked.keys()
    for key in asked:
        ((_, alone),) = answers(lm, {key: asked[key]})
        assert alone.tokens == together[key]


def test_nothing_asked_is_nothing_said(lm):
    assert list(answers(lm, {})) == []


def test_leaving_the_loop_stops_the_others(lm):
    said = answers(lm, requests(lm, 11, 50))
    next(said)
    said.close()
    lm.generate("Once", max_tokens=1)
    assert lm.runner.waiting == 0
    assert lm.runner.running == 0
