"""The card `boltzmann` on the default model, against PyTorch's own softmax and autograd."""

import math

import pytest
import torch

from thermoscope import instruments
from thermoscope.engine.replay import replay
from thermoscope.errors import InvalidRequest

PROMPT = "The capital of France is"


@pytest.fixture
def take(lm):
    return lambda **settings: instruments.read("boltzmann", model=lm, **({"prompt": PROMPT} | settings))


@pytest.fixture(scope="module")
def logits(lm):
    tokens = lm.tokenizer.prompt(PROMPT)
    return lm.runner.call(lambda: replay(lm.model, tokens, logits=True).logits)[-1].double()


def rows(reading, name):
    return reading.to_dict()["tables"][name]["rows"]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_both_columns_are_torch_s_softmax(take, logits, temperature):
    *best, others = rows(take(temperature=temperature, top=5), "two")
    p = torch.softmax(logits / temperature, dim=-1)
    top = p.topk(5)
    weights = torch.exp((logits - logits.max()) / temperature)
    for row, share, token in zip(best, top.values.tolist(), top.indices.tolist(), strict=True):
        assert row["logit"] == -row["energy"] == logits[token].item()
        assert row["softmax"] == pytest.approx(share, rel=1e-9)
        assert row["boltzmann"] == pytest.approx(share, rel=1e-9)
        assert row["weight"] == pytest.approx(weights[token].item(), rel=1e-9)
        assert row["above"] == pytest.approx(-temperature * math.log(share), rel=1e-9)
    assert others["token"] is None
    assert others["softmax"] == pytest.approx(1 - top.values.sum().item(), abs=1e-9)
    assert sum(row["weight"] for row in [*best, others]) == pytest.approx(weights.sum().item(), rel=1e-9)


def test_the_state_is_what_autograd_finds(take, logits):
    """F = −T log Z; U = −∂ log Z/∂β; S = −∂F/∂T; C = ∂U/∂T."""
    at = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    free = -at * torch.logsumexp(logits / at, dim=-1)
    (slope,) = torch.autograd.grad(free, at, create_graph=True)
    energy = free - at * slope
    (heat,) = torch.autograd.grad(energy, at)
    found = {row["quantity"]: row["value"] for row in rows(take(temperature=1.7), "state")}
    assert found["F"] == pytest.approx(free.item(), rel=1e-10)
    assert found["log Z"] == pytest.approx(-free.item() / 1.7, rel=1e-10)
    assert found["U"] == pytest.approx(energy.item(), rel=1e-10)
    assert found["S"] == pytest.approx(-slope.item(), rel=1e-10)
    assert found["C"] == pytest.approx(heat.item(), rel=1e-8)
    assert found["Var E"] == pytest.approx(heat.item() * 1.7**2, rel=1e-8)
    assert found["U − F"] == pytest.approx(-1.7 * slope.item(), rel=1e-10)
    assert found["E_0 − F"] == pytest.approx(-logits.max().item() - free.item(), rel=1e-9)


def test_a_temperature_at_either_end_is_a_value(take, lm, logits):
    cold = {row["quantity"]: row for row in rows(take(temperature=0), "state")}
    assert cold["F"]["value"] == cold["U"]["value"] == -logits.max().item()
    assert (cold["S"]["value"], cold["C"]["value"], cold["log Z"]["value"]) == (0, 0, "inf")
    assert cold["log Z"]["moved"] is None
    hot = take(temperature=math.inf, top=3)
    state = {row["quantity"]: row["value"] for row in rows(hot, "state")}
    assert state["S"] == pytest.approx(math.log(lm.config.vocab))
    assert state["U"] == pytest.approx(-logits.mean().item())
    assert (state["F"], state["C"]) == ("-inf", 0)
    assert rows(hot, "two")[0]["boltzmann"] == pytest.approx(1 / lm.config.vocab)
    assert hot.passed
    for temperature in (1e-320, 1e-9, 1e300):
        assert take(temperature=temperature, classes=[" Paris", " the"], target=" the").passed


def test_everything_at_once_in_a_chat(take):
    reading = take(chat=True, classes=["Yes", "No"], target="No", continuations=["The capital", "Paris."])
    assert {table.name for table in reading.tables} == {
        *("two", "state", "peak", "curve"),
        *("sequences", "tempered", "steps"),
        *("classes", "loss"),
    }
    assert reading.passed
    assert len({check.name for check in reading.checks}) == len(reading.checks)


@pytest.mark.parametrize(
    ("settings", "param", "got"),
    [
        ({"temperature": -0.5}, "temperature", "got -0.5"),
        ({"temperature": math.nan}, "temperature", "got nan"),
        ({"prompt": ""}, "prompt", "got ''"),
        ({"classes": []}, "classes", r"got \[\]"),
        ({"classes": ["a", ""]}, "classes[1]", "which adds no token"),
        ({"classes": ["a", "b", "a"]}, "classes[2]", "got 'a' again"),
        ({"continuations": []}, "continuations", r"got \[\]"),
        ({"continuations": [""]}, "continuations[0]", "which adds no token"),
        ({"gauge": math.inf}, "gauge", "got inf"),
        ({"gauge": 1e5}, "gauge", "got 100000.0"),
        ({"target": "a"}, "target", "expected classes to choose from"),
        ({"classes": ["a", "b"], "target": "c"}, "target", "expected one of 'a', 'b'"),
        ({"classes": [" word" * 1100]}, "classes", "expected at most 1024"),
    ],
)
def test_what_cannot_be_is_refused_by_name(take, settings, param, got):
    with pytest.raises(InvalidRequest, match=got) as caught:
        take(**settings)
    assert caught.value.param == param
    assert str(caught.value).startswith(f"{param}: ")
