"""A finite set of labels, against direct sums over made-up texts and SmolLM2's own."""

import math

import numpy as np
import pytest
import torch

from thermoscope import instruments
from thermoscope.errors import InvalidRequest
from thermoscope.instruments._classes import exclusive
from thermoscope.instruments._continuation import Continuation

PROMPT = "Review: what a lovely film. Sentiment:"
CLASSES = (" positive", " negative", " neutral")


@pytest.fixture
def take(lm):
    return lambda **settings: instruments.read("boltzmann", model=lm, **({"prompt": PROMPT} | settings))


def rows(reading, name):
    return reading.to_dict()["tables"][name]["rows"]


def text(tokens, log_p):
    empty = np.zeros((0, len(tokens)))
    return Continuation("", (0,), tokens, np.zeros(len(tokens)), np.array(log_p), empty, empty)


def test_a_label_that_begins_others_counts_without_them():
    """Enumerated on a tree: from "a" (0.5) to "ab" (0.3), and "abc" (0.1) and "ad" (0.05)."""
    found = [
        text((1,), [math.log(0.5)]),
        text((1, 2), [math.log(0.5), math.log(0.6)]),
        text((1, 2, 3), [math.log(0.5), math.log(0.6), math.log(1 / 3)]),
        text((1, 4), [math.log(0.5), math.log(0.1)]),
        text((5,), [math.log(0.2)]),
    ]
    assert np.exp(exclusive(found)) == pytest.approx([0.5 - 0.3 - 0.05, 0.3 - 0.1, 0.1, 0.05, 0.2])
    assert np.exp(exclusive(found)).sum() == pytest.approx(0.5 + 0.2)


def test_a_label_that_is_always_followed_by_another_has_no_mass():
    found = [text((1,), [math.log(0.5)]), text((1, 2), [math.log(0.5), 0.0])]
    assert exclusive(found).tolist() == [-math.inf, math.log(0.5)]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_set_is_a_softmax_of_log_probabilities(take, lab, temperature):
    reading = take(classes=CLASSES, temperature=temperature)
    z = torch.tensor(lab.last(lab.tokens(PROMPT)))
    ids = [lab.model.tokenizer.encode(label) for label in CLASSES]
    assert all(len(each) == 1 for each in ids)
    log_p = torch.log_softmax(z, dim=-1)[[each[0] for each in ids]]
    p = torch.softmax(log_p / temperature, dim=-1)
    free = -temperature * torch.logsumexp(log_p / temperature, dim=-1)
    for row, own, share in zip(rows(reading, "classes"), log_p.tolist(), p.tolist(), strict=True):
        assert row["logprob"] == pytest.approx(own, rel=1e-9)
        assert row["mass"] == pytest.approx(math.exp(own), rel=1e-9)
        assert row["p"] == pytest.approx(share, rel=1e-9)
        assert row["above"] == pytest.approx(-own - free.item(), rel=1e-9)
    assert f"hold {100 * log_p.exp().sum().item():.4g}% of what" in reading.findings[-1]


def test_the_loss_and_its_gradient_are_autograd_s(take):
    reading = take(classes=CLASSES, target=" negative", temperature=2.0)
    energies = [row["energy"] for row in rows(reading, "classes")]
    z = torch.tensor([-each for each in energies], dtype=torch.float64, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(z / 2.0, torch.tensor(1))
    loss.backward()
    found = rows(reading, "loss")
    assert [row["gradient"] for row in found] == pytest.approx(z.grad.tolist(), rel=1e-9)
    assert [row["data"] for row in found] == [0, 1, 0]
    assert sum(row["gradient"] for row in found) == pytest.approx(0, abs=1e-12)
    assert f"= {loss.item():.4g} nats" in reading.findings[-1]


def test_the_gradient_at_either_end(take):
    cold = take(classes=CLASSES, target=" negative", temperature=0)
    assert [row["gradient"] for row in rows(cold, "loss")] == [None] * 3
    hot = take(classes=CLASSES, target=" negative", temperature=math.inf)
    assert [row["gradient"] for row in rows(hot, "loss")] == [0, 0, 0]
    assert [row["p"] for row in rows(hot, "classes")] == pytest.approx([1 / 3] * 3)
    assert cold.passed
    assert hot.passed


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 30.0, 1e3])
def test_labels_that_float64_has_no_probability_for(take, temperature):
    dice = np.random.default_rng(0)
    labels = ["".join(map(chr, dice.integers(33, 127, 300))) for _ in range(2)]
    reading = take(classes=labels, target=labels[0], temperature=temperature)
    one, other = rows(reading, "classes")
    assert max(one["logprob"], other["logprob"]) < -1000
    odds = math.tanh((one["logprob"] - other["logprob"]) / (2 * temperature))
    assert one["p"] == pytest.approx((1 + odds) / 2, abs=1e-9)
    assert reading.passed
    assert "hold exp(-" in reading.findings[-2]


def test_a_label_has_a_greatest_length(take):
    with pytest.raises(InvalidRequest, match=r"classes\[1\]: got .*, expected at most 10000 characters"):
        take(classes=["a", "b" * 10_001])


def test_one_label_is_a_set(take):
    reading = take(classes=[" positive"], target=" positive")
    assert rows(reading, "classes")[0]["p"] == 1
    assert rows(reading, "loss")[0]["gradient"] == 0
    assert reading.passed


def test_a_label_that_begins_another_is_said(take):
    reading = take(classes=[" positive", " positive and warm"])
    short, long = rows(reading, "classes")
    assert short["mass"] == pytest.approx(math.exp(short["logprob"]) - math.exp(long["logprob"]), rel=1e-9)
    assert "A label that begins another counts where none of the longer ones follows." in reading.notes
