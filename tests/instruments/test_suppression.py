"""What hiding steps does, against replays that hide them."""

import pytest
import torch

from tests.instruments import chains
from tests.instruments.loops import rows
from thermoscope.instruments._suppression import NOTHING_FOUND, hide
from thermoscope.laws import divergence
from thermoscope.models.intervention import Suppress

EDGES = chains.EDGES


def log_p(replay):
    return torch.log_softmax(replay.logits.double(), dim=-1).numpy()


@pytest.fixture(scope="module")
def reading(run, any_lab):
    return hide(any_lab, run, controls=5, seed=1)


def test_each_step_s_effect_on_later_ones_and_on_the_answer(run, any_lab, reading):
    plain = chains.kept(any_lab)
    pairs = {(row["hidden"], row["later"]): row["kl"] for row in rows(reading.table("effects"))}
    assert len(pairs) == 10
    for at, row in enumerate(rows(reading.table("suppression"))):
        changed = chains.kept(any_lab, [Suppress(range(EDGES[at], EDGES[at + 1]))])
        kl = divergence.kl(log_p(plain), log_p(changed))
        answer = float((changed.logprobs - plain.logprobs)[-2:].sum())
        assert row["answer"] == pytest.approx(answer, abs=2e-5)
        later = [kl[token - 1] for token in range(EDGES[at + 1], EDGES[-1])]
        for other in range(at + 1, 5):
            own = [kl[token - 1] for token in range(EDGES[other], EDGES[other + 1])]
            assert pairs[at + 1, other + 1] == pytest.approx(sum(own) / len(own), rel=1e-4, abs=1e-6)
        if later:
            assert row["kl_later"] == pytest.approx(sum(later) / len(later), rel=1e-4, abs=1e-6)
            assert row["kl_next"] == pairs[at + 1, at + 2]
        else:
            assert (row["kl_later"], row["kl_next"]) == (None, None)


def test_what_is_within_the_controls_is_no_effect(reading):
    controls = [row["answer"] for row in rows(reading.table("controls"))]
    assert len(controls) == 5
    for row in rows(reading.table("suppression")):
        low, high = min(0, *controls), max(0, *controls)
        expected = "costs" if row["answer"] < low else "helps" if row["answer"] > high else NOTHING_FOUND
        assert row["verdict"].startswith(expected)


def test_controls_lie_within_the_reasoning_and_are_hidden_as_steps_are(run, any_lab, reading):
    plain = chains.kept(any_lab)
    for row in rows(reading.table("controls")):
        span = range(row["first"], row["first"] + row["tokens"])
        assert row["tokens"] == round(37 / 5)
        assert EDGES[0] <= span.start < span.stop <= EDGES[-1]
        changed = chains.kept(any_lab, [Suppress(span)])
        assert row["answer"] == pytest.approx(float((changed.logprobs - plain.logprobs)[-2:].sum()), abs=2e-5)


def test_the_cycle_has_every_step_and_the_answer(reading):
    shown = {figure.name: figure for figure in reading.figures}
    (nodes,) = shown["cycle"].traces
    assert nodes["text"] == ["1", "2", "3", "4", "5", "answer"]
    arrows = shown["cycle"].layout["annotations"]
    assert len(arrows) == 15
    effects = {(row["hidden"], row["later"]): row["kl"] for row in rows(reading.table("effects"))}
    first = max(effects, key=effects.get)[0] - 1
    to_steps = [arrow for arrow in arrows if arrow["arrowcolor"] == "#2563a6"]
    widest = max(to_steps, key=lambda arrow: arrow["arrowwidth"])
    away = [
        (widest["ax"] - x) ** 2 + (widest["ay"] - y) ** 2 for x, y in zip(nodes["x"], nodes["y"], strict=True)
    ]
    assert away.index(min(away)) == first
    assert reading.passed
