"""A measured task: numbers against their definitions, and that no held-out target steers."""

import json

import numpy as np
import pytest

from thermoscope import instruments
from thermoscope.errors import InvalidRequest
from thermoscope.instruments import _pairs, _task
from thermoscope.instruments._arms import Arm
from thermoscope.instruments._vectors import METHODS
from thermoscope.instruments.shape.source import File
from thermoscope.models.intervention import Patch

WORDS = """cat dog house river tree lamp door road stone cloud table window garden letter picture engine
bottle mirror hammer basket ticket blanket pencil button carpet"""
PLURALS = [_pairs.Pair(word, f"{word}s") for word in WORDS.split()]
FILE = File(name="plurals.json", data=json.dumps([pair._asdict() for pair in PLURALS]).encode())


@pytest.fixture(scope="module")
def split():
    return _pairs.split(PLURALS, 16, None, seed=0)


@pytest.fixture(scope="module")
def measured(lm, split):
    from thermoscope.instruments.shape.lab import Lab

    return _task.measure(Lab(lambda: lm), *split, shots=4, seed=0)


def test_the_prompt_helps_and_a_vector_has_part_of_it(measured):
    bare, prompted = (measured.arms[name] for name in ("bare", "prompted"))
    assert bare.right.mean() < 0.3 < 0.7 < prompted.right.mean()
    for method in METHODS:
        assert measured.arms[method].logprob.mean() > bare.logprob.mean() + 1


def test_an_arm_is_what_a_replay_with_the_same_patch_says(lab, measured):
    method = "mean difference"
    layer, strength, _ = measured.choices[method]
    states = measured.states[layer]
    shifts = measured.vectors.shifts(method, layer, strength, states)
    for at in (0, 3):
        item = measured.items[at]
        plain = lab.replay([*item.bare, item.target], keep=["residual"], layers=[layer])
        row = plain.kept["residual", layer][-2]
        assert row.numpy() == pytest.approx(states[at], abs=1e-4)
        moved = (states[at] + shifts[at]).astype(np.float32)
        patch = Patch(layer, [len(item.bare) - 1], row.new_tensor(moved)[None])
        again = lab.replay([*item.bare, item.target], interventions=[patch])
        assert measured.arms[method].logprob[at] == pytest.approx(float(again.logprobs[-1]), abs=1e-4)
        assert measured.arms["bare"].logprob[at] == pytest.approx(float(plain.logprobs[-1]), abs=1e-4)


def test_no_held_out_target_enters_the_steering(tiny_lab, split):
    train, test = split
    others = [pair._replace(output=f"x{pair.input}") for pair in test]
    one, other = (_task.measure(tiny_lab, train, held, shots=4, seed=0) for held in (test, others))
    assert one.choices == other.choices
    for layer, vector in one.vectors.gradient.items():
        assert np.array_equal(vector, other.vectors.gradient[layer])
        assert np.array_equal(one.vectors.task[layer], other.vectors.task[layer])
    assert not np.array_equal(one.arms["gradient"].logprob, other.arms["gradient"].logprob)


def test_the_gain_is_its_definition_and_its_interval_holds_it(measured):
    bare, prompted = (measured.arms[name].right.sum() for name in ("bare", "prompted"))
    for method in METHODS:
        arm = measured.arms[method]
        share, ends = _task.gain(measured, arm)
        assert share == pytest.approx((arm.right.sum() - bare) / (prompted - bare))
        assert ends is None or ends[0] <= share <= ends[1]
        kl, (low, high) = _task.recovered(measured, arm)
        assert kl == pytest.approx(1 - arm.kl.sum() / measured.arms["bare"].kl.sum())
        assert low <= kl <= high


def test_a_prompt_without_a_gain_leaves_nothing_to_recover(measured):
    same = {**measured.arms, "prompted": measured.arms["bare"]}
    none = _task.Measured(**{**vars(measured), "arms": same})
    assert _task.gain(none, measured.arms["gradient"]) == (None, None)


def test_controls_are_as_long_and_worse(measured):
    for method in METHODS:
        arm: Arm = measured.arms[method]
        assert arm.logprob.mean() > measured.arms[f"{method}, random"].logprob.mean()


def test_the_reading_says_what_was_measured(lm, measured, monkeypatch):
    monkeypatch.setattr(_task, "measure", lambda *_, **__: measured)
    reading = instruments.read("prompting", model=lm, task=FILE, train=16, shots=4)
    assert reading.passed
    rows = {row[0]: row for row in reading.table("task").rows}
    assert len(rows) == 2 + 3 * len(METHODS)
    assert rows["bare"][5] == 0
    assert rows["prompted"][5] == 1
    verdicts = {(row[0], row[1]): row[-1] for row in reading.table("against").rows}
    for row in reading.table("against").rows:
        assert (row[-1] == "more") == (row[3] is not None and row[3] > 0)
    assert len(verdicts) == 2 * len(METHODS)
    assert {row[0] for row in reading.table("unrelated").rows} == {"plain", *METHODS}
    assert reading.steering.mode == "card"
    assert reading.steering.layers == lm.config.layers


def test_fewer_items_than_asked_are_refused(lm):
    with pytest.raises(
        InvalidRequest, match="got 16 items to fit on and 10 to judge by, but the task has 25"
    ):
        instruments.read("prompting", model=lm, task=FILE, train=16, test=10)
