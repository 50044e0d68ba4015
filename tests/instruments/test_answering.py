"""The answer asked for early and after other forms of the reasoning."""

import math
import re
from itertools import pairwise

import numpy as np
import pytest

from tests.instruments.loops import rows
from thermoscope.engine.replay import replay
from thermoscope.instruments._answering import DRAWS, ask, filler, mistaken, shuffled
from thermoscope.instruments._chain import chained
from thermoscope.instruments._rerun import Rerun

SOLUTION = "Tom has 3 apples.\nHe buys 14, so 3 + 14 = 17.\nHe eats 3, so 17 - 3 = 14.\n#### 14"


@pytest.fixture(scope="module")
def run(lm):
    from thermoscope.instruments.shape.lab import Lab

    lab = Lab(lambda: lm)
    reasoning = tuple(lm.tokenizer.encode(SOLUTION))
    chain = chained(lab, lab.tokens("How many?"), reasoning, lab.tokens("N/A"), "\nThe answer is", None)
    return Rerun(lab, chain, sinks=2, until=20, head=None, room=40)


@pytest.fixture(scope="module")
def reading(run, lm):
    from thermoscope.instruments.shape.lab import Lab

    return ask(Lab(lambda: lm), run, 0)


def test_each_answer_is_that_of_a_text_that_ends_there(run, lm, reading):
    chain, found = run.chain, rows(reading.table("early"))
    ends = [len(chain.prompt), *(step.end for step in chain.steps)]
    for row, end in zip(found, ends, strict=True):
        alone = replay(lm.model, (*chain.tokens[:end], *chain.tail)).logprobs[-len(chain.answer) :]
        assert row["logprob"] == pytest.approx(float(alone.sum()), abs=1e-6)
        assert row["p"] == pytest.approx(math.exp(row["logprob"]))
    gains = [after["logprob"] - before["logprob"] for before, after in pairwise(found)]
    assert [row["gain"] for row in found[1:]] == pytest.approx(gains)
    assert [row["states"] for row in found] == [None, False, True, True]
    assert reading.passed


def test_forms_stand_beside_each_other(run, lm, reading):
    found = {row["reasoning"]: row for row in rows(reading.table("forms"))}
    bias = run.without_question()
    assert found["whole"]["logprob"] == run.answer
    assert found["none"]["from_whole"] == pytest.approx(found["none"]["logprob"] - run.answer)
    for name, row in found.items():
        assert row["above_bias"] == pytest.approx(row["logprob"] - bias, abs=1e-9), name
        assert row["lowest"] <= row["logprob"] <= row["highest"]
        assert row["draws"] == (DRAWS if name in ("shuffled steps", "mistaken steps") else 1)
    said = (*run.chain.prompt, *filler(run), *run.chain.tail)
    expected = replay(lm.model, said).logprobs[-len(run.chain.answer) :].sum()
    assert found["filler"]["logprob"] == pytest.approx(float(expected), abs=1e-6)


def test_the_forms_themselves(run):
    dice, chain = np.random.default_rng(0), run.chain
    for _ in range(20):
        order = shuffled(run, dice)
        assert sorted(order) == sorted(chain.reasoning)
        assert tuple(order) != chain.reasoning
    assert len(filler(run)) == len(chain.reasoning)
    assert run.decode(filler(run)).strip(". ") == ""


def test_a_mistaken_reasoning_agrees_with_itself_and_keeps_its_words(run):
    whole = run.decode(run.chain.reasoning)
    for seed in range(10):
        other = run.decode(mistaken(run, np.random.default_rng(seed)))
        assert re.sub(r"\d+", "#", other) == re.sub(r"\d+", "#", whole)
        pairs = set(zip(re.findall(r"\d+", whole), re.findall(r"\d+", other), strict=True))
        assert len(pairs) == len({old for old, _ in pairs}) == 3
        assert all(old != new and len(old) == len(new) for old, new in pairs)
