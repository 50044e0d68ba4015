"""A finite grammar's answers, each weighed in one pass of its own, and drawn by the engine many times."""

import collections
import math

import numpy as np
import pytest
import torch

from tests import tiny
from tests.answers import finish
from thermoscope.engine.constraint import paths, summed, weigh
from thermoscope.engine.engine import Engine
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.guide import Guides
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.errors import InvalidRequest
from thermoscope.laws.constraint import drawn
from thermoscope.models.intervention import Add

PROMPT = (10, 20, 30)
GRAMMAR = Grammar.choice(["ab", "abc", "b", "ca", "cb"])


@pytest.fixture(scope="module")
def guides(model):
    return Guides(model.tokenizer, tiny.VOCAB)


def weighed(model, guides, grammar=GRAMMAR, **more):
    every = paths(guides.guide(grammar), model.tokenizer.end_ids)
    return [weight for part in weigh(model, PROMPT, every, **more) for weight in part]


def test_every_answer_is_found_once_and_its_end_where_it_is_drawn(model, guides):
    found = paths(guides.guide(GRAMMAR), model.tokenizer.end_ids)
    texts = [model.tokenizer.decode(path.tokens) for path in found]
    assert sorted(texts) == ["ab", "abc", "b", "ca", "cb"]
    assert [path.tokens[-1] in model.tokenizer.end_ids for path in found] == [text == "ab" for text in texts]
    for path in found:
        assert all(token in ids for token, ids in zip(path.tokens, path.allowed, strict=True))


def test_an_answers_weight_is_that_of_a_pass_of_its_own(model, guides):
    for weight in weighed(model, guides):
        logits = replay(model, [*PROMPT, *weight.tokens], logits=True).logits.numpy().astype(np.float64)
        guide, logprob, work = guides.guide(GRAMMAR), 0.0, 0.0
        for index, token in enumerate(weight.tokens):
            row = logits[len(PROMPT) + index - 1]
            logprobs = row - np.log(np.exp(row).sum())
            logprob += logprobs[token]
            work -= math.log(np.exp(logprobs[guide.allowed()]).sum())
            if token not in model.tokenizer.end_ids:
                guide.accept(token)
        assert weight.logprob == pytest.approx(logprob, abs=1e-4)
        assert weight.work == pytest.approx(work, abs=1e-4)


def test_the_identity_holds_for_a_real_grammar(model, guides):
    weights = weighed(model, guides)
    log_p, work = (np.array([getattr(each, name) for each in weights]) for name in ("logprob", "work"))
    q, conditional = drawn(log_p, work), np.exp(log_p) / np.exp(log_p).sum()
    assert summed(weights).kl == pytest.approx((q * np.log(q / conditional)).sum(), abs=1e-6)
    assert summed(weights).kl > 1e-3


def test_the_engine_draws_what_was_weighed(model, guides):
    """Each record's work adds up to the path's; and how often each answer comes is q, to a chance of 1e-6."""
    weights = {each.tokens: each for each in weighed(model, guides)}
    engine = Engine(model, slots=16, context=32)
    asked = [
        Request(prompt=PROMPT, sampling=Sampling(seed=seed), grammar=GRAMMAR, record=seed < 40)
        for seed in range(400)
    ]
    counts = collections.Counter()
    for trace in finish(engine, asked):
        counts[trace.tokens] += 1
        weight = weights[trace.tokens]
        if trace.steps[0].record:
            assert sum(step.record.constraint.work for step in trace.steps) == pytest.approx(
                weight.work, abs=1e-4
            )
            assert sum(step.record.logprob for step in trace.steps) == pytest.approx(weight.logprob, abs=1e-4)
    for tokens, weight in weights.items():
        q = math.exp(weight.logprob + weight.work)
        assert abs(counts[tokens] - 400 * q) < 5 * math.sqrt(400 * q * (1 - q)) + 1


def test_a_steered_model_is_another(model, guides):
    plain = summed(weighed(model, guides))
    push = Add(layer=1, vector=torch.full((64,), 2.0))
    assert summed(weighed(model, guides, interventions=(push,))).log_mass != pytest.approx(plain.log_mass)


@pytest.mark.parametrize("grammar", [Grammar.regex("a+"), Grammar.regex("[a-z]{3}"), Grammar.json_object()])
def test_a_set_that_is_not_small_is_refused(model, guides, grammar):
    with pytest.raises(InvalidRequest, match="more than 512 beginnings"):
        paths(guides.guide(grammar), model.tokenizer.end_ids)
