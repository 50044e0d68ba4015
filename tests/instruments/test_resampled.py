"""Steps drawn again: what they are compared with, and when nothing is found."""

import pytest

from tests.instruments.loops import rows
from tests.instruments.test_answering import run  # noqa: F401
from thermoscope.engine.replay import replay
from thermoscope.instruments._resampled import resample
from thermoscope.instruments._suppression import NOTHING_FOUND


def test_a_step_against_those_that_the_model_draws(run, lab, lm):  # noqa: F811
    reading = resample(lab, run, 3, 1.0, 5)
    chain = run.chain
    for row, step in zip(rows(reading.table("resampled")), chain.steps, strict=True):
        own = replay(lm.model, (*chain.tokens[: step.end], *chain.tail)).logprobs[-len(chain.answer) :]
        assert row["own"] == pytest.approx(float(own.sum()), abs=1e-6)
        assert row["importance"] == pytest.approx(row["own"] - row["others"])
        assert row["low"] <= row["importance"] + 1e-12
        assert row["importance"] <= row["high"] + 1e-12
        assert (row["verdict"] == NOTHING_FOUND) == (row["low"] <= 0 <= row["high"])
    assert reading.passed
    assert resample(lab, run, 3, 1.0, 5) == reading
