"""One case: numbers against transformers-free second ways, and what is refused."""

import numpy as np
import pytest
import torch

from thermoscope import instruments
from thermoscope.engine.gradient import gradients
from thermoscope.engine.replay import replay
from thermoscope.errors import InvalidRequest
from thermoscope.instruments._demonstrations import positions
from thermoscope.laws import boltzmann, divergence
from thermoscope.models.exact import Exact
from thermoscope.models.intervention import Patch, Suppress

CASE = {"prompt": "cat -> cats\ndog -> dogs\nhouse -> houses\nriver -> rivers", "input": "tree ->"}


@pytest.fixture(scope="module")
def reading(lm):
    return instruments.read("prompting", model=lm, **CASE, target=" trees")


@pytest.fixture(scope="module")
def texts(lm):
    """The tokens without the prompt and with it, and where the input begins."""
    bare = lm.tokenizer.prompt("\n" + CASE["input"])
    whole = lm.tokenizer.prompt("\n" + CASE["prompt"] + "\n" + CASE["input"])
    return bare, whole, len(whole) - len(bare) + 1


@pytest.fixture(scope="module")
def seen(lm, texts):
    """Replays of both with every layer's stream and the logits."""
    return [
        lm.runner.call(lambda t=tokens: replay(lm.model, t, keep=["residual"], logits=True))
        for tokens in texts[:2]
    ]


def log_p(found):
    return boltzmann.log_probabilities(found.logits[-1].double().numpy())


def test_every_check_passes(reading):
    assert len(reading.checks) == 4
    assert reading.passed, reading.checks


def test_both_distributions_are_those_of_two_replays(lm, reading, seen):
    bare, prompted = map(log_p, seen)
    for token, without, with_prompt, _ in reading.table("side").rows:
        (index,) = lm.tokenizer.encode(token)
        assert without == pytest.approx(np.exp(bare[index]), abs=1e-9)
        assert with_prompt == pytest.approx(np.exp(prompted[index]), abs=1e-9)
    kl = divergence.kl(prompted, bare)
    assert f"KL {kl:.4g} nats" in reading.findings[0]


def test_the_layers_are_those_of_the_replays_under_the_lens(lm, reading, seen):
    target = lm.tokenizer.encode(" trees")[0]
    for row in reading.table("layers").rows:
        layer, shift, cosine, *_, without, with_prompt = row
        bare, prompted = (found.kept["residual", layer][-1] for found in seen)
        assert shift == pytest.approx(float((prompted - bare).norm() / bare.norm()), rel=1e-5)
        assert cosine == pytest.approx(float(torch.cosine_similarity(prompted, bare, dim=0)), rel=1e-5)
        both = torch.stack([bare, prompted])
        lens = lm.runner.call(lambda rows=both: lm.model.decoder.logits(rows))
        expected = lens.double().log_softmax(-1)[:, target].tolist()
        assert [without, with_prompt] == pytest.approx(expected, abs=1e-4)
    assert row[5] == pytest.approx(log_p(seen[0])[target])


@pytest.mark.parametrize("layer", [30, 21])
def test_the_steered_distribution_is_a_patched_replay(lm, texts, seen, layer):
    found = instruments.read("prompting", model=lm, **CASE, target=" trees", layer=layer, gamma=300.0)
    ((_, size, similar, gamma, beta, _, share, kl),) = found.table("oracle").rows
    target = lm.tokenizer.encode(" trees")
    gradient = lm.runner.call(lambda: gradients(Exact(lm.model.decoder), [(texts[0], target)], [layer])[0])
    slope = gradient.by_layer[layer][-1]
    assert size == pytest.approx(float(slope.norm()), rel=1e-6)
    assert (gamma, beta) == (300, pytest.approx(300 * similar))
    row = seen[0].kept["residual", layer][-1].double() + beta * slope.double()
    patch = Patch(layer, [len(texts[0]) - 1], row[None].float())  # an ulp of it, in int8, is 1e-3 nats
    steered = lm.runner.call(lambda: replay(lm.model, texts[0], logits=True, interventions=[patch]))
    bare, prompted = map(log_p, seen)
    assert kl == pytest.approx(float(divergence.kl(prompted, log_p(steered))), abs=1e-4)
    assert share == pytest.approx(1 - kl / float(divergence.kl(prompted, bare)), abs=1e-5)


def test_what_a_token_carries_is_a_replay_that_hides_it(lm, reading, texts, seen):
    _, whole, first = texts
    prompted = log_p(seen[1])
    rows = reading.table("tokens_hidden").rows
    assert [row[0] for row in rows] == list(range(first))
    for index in (0, 5, first - 1):
        hidden = Suppress([index], range(first, len(whole)))
        without = lm.runner.call(lambda h=hidden: replay(lm.model, whole, logits=True, interventions=[h]))
        assert rows[index][2] == pytest.approx(float(divergence.kl(prompted, log_p(without))), abs=1e-7)


def test_demonstrations_are_found_where_the_input_s_mark_stands(lab, lm, texts):
    _, whole, first = texts
    found = positions(lab, whole, first)
    assert [lm.tokenizer.piece(whole[at]) for at in found] == [" ->"] * 4
    question = lm.tokenizer.prompt("Q: up\nA: down\nQ: hot\nA: cold\nQ: in\nA:")
    found = positions(lab, question, len(question) - 3)
    assert [lm.tokenizer.decode(question[: at + 1])[-3:] for at in found] == ["\nA:"] * 2
    assert positions(lab, lm.tokenizer.prompt("Say it in French. The cat"), 4) == []


def test_a_prompt_without_demonstrations_says_so(lm):
    found = instruments.read("prompting", model=lm, prompt="Answer in French.", input="The cat is called")
    assert any("No demonstrations found" in note for note in found.notes)
    assert "manifold" not in {table.name for table in found.tables}
    assert any("the prompted model's own best token" in note for note in found.notes)
    assert found.passed


def test_a_target_of_several_tokens_counts_by_the_chain_rule(lm):
    found = instruments.read("prompting", model=lm, **CASE, target=" trees and bushes", layer=12)
    assert any("It has 3 tokens: its log p is their sum" in note for note in found.notes)
    assert found.passed


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "prompt: missing; give prompt and input, or a task"),
        ({"prompt": "a"}, "input: missing, and a case needs prompt and input"),
        ({"input": "a"}, "prompt: missing, and a case needs prompt and input"),
        ({"target": "a"}, "target: got one without a case"),
        (CASE | {"layer": 31}, "layer: got 31, expected 0 to 30"),
        (CASE | {"layer": -1}, "layer: got -1"),
        (CASE | {"target": ""}, "target: got ''"),
        (CASE | {"input": "tree -", "target": ">"}, "target: got '>', whose first token would be one with"),
        (CASE | {"prompt": "a b " * 2000}, "expected at most 1024, the context"),
        (CASE | {"target": " a b" * 600}, "target: got .* tokens with the input, expected at most 1024"),
        ({"task": "[]"}, "task: got content without a pair"),
    ],
)
def test_bad_input_is_refused_in_one_line(lm, asked, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        instruments.read("prompting", model=lm, **asked)
    assert "\n" not in str(caught.value)
