"""Runs with a change or with another end, against replays of their own."""

import numpy as np
import pytest
import torch

from tests.instruments import chains
from thermoscope.engine.replay import replay
from thermoscope.laws import divergence
from thermoscope.models.intervention import Suppress


def log_p(logits):
    return torch.log_softmax(logits.double(), dim=-1).numpy()


def test_the_answer_is_its_tokens_chain(run, any_lab):
    plain = chains.kept(any_lab)
    rows = log_p(plain.logits)
    tokens = run.chain.tokens
    expected = sum(rows[at - 1][tokens[at]] for at in range(49, 51))
    assert run.answer == pytest.approx(expected, abs=1e-5)
    assert run.logprobs == pytest.approx(plain.logprobs.numpy(), abs=1e-5)


@pytest.mark.parametrize("change", [Suppress(range(9, 18)), Suppress(range(36, 41), range(46, 51), [0])])
def test_a_change_against_two_replays(run, any_lab, change):
    plain, changed = chains.kept(any_lab), chains.kept(any_lab, [change])
    effect = run.changed([change], kl=True)
    expected = divergence.kl(*map(log_p, (plain.logits, changed.logits)))
    assert effect.kl == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert effect.kl.max() > 1e-5
    assert effect.logprobs == pytest.approx(changed.logprobs.numpy(), abs=1e-5)
    assert effect.answer == pytest.approx(float(changed.logprobs[-2:].sum()), abs=1e-5)
    short = run.changed([change])
    assert short.answer == effect.answer
    assert len(short.kl) == 0


def test_a_change_of_nothing(run):
    effect = run.changed([Suppress(())], kl=True)
    assert effect.answer == run.answer
    assert not effect.kl.any()
    assert np.array_equal(effect.logprobs, run.logprobs)


def test_another_end_is_a_text_of_its_own(run, any_lab):
    chain = run.chain
    for start, other in ((9, chain.tail), (26, (5, 6, 7, *chain.tail)), (46, chain.tail)):
        alone = replay(any_lab.model.model, (*chain.tokens[:start], *other))
        assert run.instead(start, other) == pytest.approx(float(alone.logprobs[-2:].sum()), abs=1e-5)
    bare = replay(any_lab.model.model, (*chain.bare, *chain.tail))
    assert run.without_question() == pytest.approx(float(bare.logprobs[-2:].sum()), abs=1e-5)


def test_the_lens_of_the_last_stream_is_the_model_s_own(run, any_lab):
    torch.testing.assert_close(run.lens(run.look.last), chains.kept(any_lab).logits, rtol=0, atol=1e-4)


def test_the_memory_s_bytes(run, any_lab):
    config = run.config
    assert run.width == 4
    assert run.held(46) == 2 * 4 * config.layers * config.kv_heads * config.head_dim * 46
    assert run.room == 71
