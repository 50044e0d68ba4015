"""Intervals of what temperature scaling finds, on simulated labels."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from thermoscope.instruments._resampling import Half, Judged, Sure, gained, intervals, judgement
from thermoscope.laws import calibration
from thermoscope.laws.calibration import Answers

LAB = SimpleNamespace(progress=lambda *_: None)


def half(seed, documents=50, temperature=2.0, name="held out", rows=400):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=3, size=(rows, 9)).astype(np.float32)
    labels = (logits / temperature + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return Half(name, logits, labels, np.arange(rows) % documents)


def judged(part, temperature):
    given = (part.logits, part.labels, temperature)
    return Judged(part, temperature, calibration.losses(*given), calibration.answers(*given))


def read(fitted, held, best=None):
    best = calibration.fit(fitted.logits, fitted.labels) if best is None else best
    before, after = judged(held, 1.0), judged(held, best)
    reading = intervals(LAB, fitted, before, after, gained(LAB, before, after))
    return {row[0].partition(",")[0]: row for row in reading.table("intervals").rows}, reading.notes


def resamples(part):
    """Each resample's tokens, from the same dice."""
    dice = np.random.default_rng(0)
    for times in dice.multinomial(part.count, [1 / part.count] * part.count, size=1000):
        yield np.repeat(np.arange(len(part.labels)), times[part.documents])


def test_the_intervals_are_quantiles_of_a_loop_over_the_resamples():
    fitted, held = half(0, name="fitted"), half(1)
    found, notes = read(fitted, held)
    best = found["T*"][2]
    before, after = judged(held, 1.0), judged(held, best)
    for name, losses in (
        ("nll at T = 1", before.losses),
        (f"nll at T = {best:.4g}", after.losses),
        ("gain", before.losses - after.losses),
    ):
        means = sorted(losses[rows].mean() for rows in resamples(held))
        assert found[name][1] == "held out"
        assert found[name][2:] == pytest.approx((losses.mean(), means[24], means[974]))
    errors = []
    for rows in resamples(held):
        drawn = Answers(before.answers.confidence[rows], before.answers.right[rows])
        errors.append(calibration.expected_calibration_error(drawn.table()))
    errors.sort()
    error = before.error
    assert found["ece at T = 1"][2:] == pytest.approx(
        (error, 2 * error - errors[974], 2 * error - errors[24])
    )
    assert found["T*"][1] == "fitted"
    assert found["T*"][3] < best < found["T*"][4]
    assert any("of 50 and of 50." in note for note in notes)


def test_an_error_within_chance_has_no_interval_and_it_says_so():
    found, notes = read(half(0), half(1))
    name = next(name for name in found if name.startswith("ece") and name != "ece at T = 1")
    assert found[name][3:] == (None, None)
    assert found["ece at T = 1"][3] is not None
    (note,) = [note for note in notes if "the calibration error means little" in note]
    assert note.startswith("On 400 tokens")
    assert f"{found[name][2]:.4f} at T = " in note
    assert "at T = 1," not in note


def test_where_there_is_enough_the_error_needs_no_excuse():
    part = half(2, documents=400, temperature=6.0, rows=4000)
    _, notes = read(part, part, best=1.0)
    assert not any("means little" in note for note in notes)


@pytest.mark.parametrize(("documents", "said"), [(1, "says nothing of others"), (5, "too narrow")])
def test_few_documents_are_said(documents, said):
    found, notes = read(half(0, documents=documents), half(1))
    assert any(said in note for note in notes)
    assert (found["T*"][3] is None) == (documents == 1)


@pytest.mark.parametrize("best", [0.0, math.inf])
def test_a_temperature_at_an_end_has_no_interval(best):
    found, _ = read(half(0), half(1), best=best)
    assert found["T*"][2:] == (best, None, None)
    if best == 0:
        assert found["nll at T = 0"][2:] == (math.inf, None, None)
        assert found["gain"][2:] == (-math.inf, None, None)


def test_the_judgement_is_of_the_gain():
    assert judgement(Sure(0.2, 0.1, 0.3)) == "better, by 0.2000 nats a token [0.1000, 0.3000]"
    assert judgement(Sure(-0.2, -0.3, -0.1)).startswith("worse, by -0.2000")
    assert judgement(Sure(0.1, -0.1, 0.3)).startswith("no different, as far as they tell, by 0.1000")
    assert judgement(Sure(0.1)) == "better"
    assert judgement(Sure(-math.inf)) == "no better"


def shares(part, truth, trials, count):
    """How many intervals of the calibration error hold the truth, and how many there are at all."""
    held = given = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        confidence = 0.03 + 0.97 * rng.beta(1.2, 1.5, size=count)
        answers = Answers(confidence, rng.random(count) < (1 - part) * confidence)
        labelled = Half("held out", np.zeros((count, 1)), np.zeros(count, int), np.arange(count))
        one = Judged(labelled, 1.0, np.zeros(count), answers)
        rows = intervals(LAB, labelled, one, one, Sure(0.0)).table("intervals").rows
        low, high = rows[4][3:]
        given += low is not None
        held += low is not None and low <= truth <= high
    return held, given


@pytest.mark.slow
@pytest.mark.parametrize(("part", "count"), [(0.2, 2500), (0.4, 300)])
def test_intervals_of_the_error_hold_it_nine_times_in_ten(part, count):
    """Confidence c, right with probability (1 − part) c, so that the error is part · mean of c."""
    truth = part * (0.03 + 0.97 * 1.2 / 2.7)
    held, given = shares(part, truth, 100, count)
    assert given > 50
    assert held / given >= 0.85
