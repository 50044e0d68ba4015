"""Decoding as it is timed, on a tiny model: who says how much, and that the parts are the whole."""

import pytest

from tests import tiny
from thermoscope.bench import measure
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.errors import InvalidRequest


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    model = tiny.ours(tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny")))
    with LanguageModel(lambda: Engine(model, slots=4, context=256)) as made:
        yield made


PROMPTS = [tuple(range(2, 42)), tuple(range(30, 70)), tuple(range(10, 50))]


def test_all_say_so_many_tokens_greedily(lm):
    done = measure.decode(lm, PROMPTS, 9)
    for prompt, said in zip(PROMPTS, done.tokens, strict=True):
        alone = lm.generate(prompt, temperature=0, max_tokens=9, ignore_eos=True)
        assert said == list(alone.trace.tokens)
    assert done.seconds > 0
    assert done.rate > 0


def test_even_answers_are_decoded_from_the_first_step_on(lm):
    """Their prompts were read before: a token of each goes through the layers in every step, and no more."""
    rows, forward = [], lm.model.decoder.forward
    lm.model.decoder.forward = lambda tokens, *more: rows.append(len(tokens)) or forward(tokens, *more)
    try:
        done = measure.decode(lm, PROMPTS, 9, even=True)
    finally:
        del lm.model.decoder.forward
    assert sum(rows) == sum(map(len, PROMPTS)) + 9 * len(PROMPTS)
    assert done.tokens == measure.decode(lm, PROMPTS, 9).tokens
    assert measure.room(40, 9) == 40 + 9


def test_parts_sum_to_the_mean_step(lm):
    done = measure.decode(lm, PROMPTS, 40, even=True)
    assert set(done.step) == {"layers", "head", "sampler", "python"}
    assert sum(done.step.values()) == pytest.approx(3 / done.rate, rel=0.1)


def test_nothing_listens_afterwards(lm):
    measure.decode(lm, PROMPTS[:1], 2)
    assert lm.runner.engine.watch is None


def test_a_request_that_cannot_be_leaves_an_engine_that_is_free(lm):
    with pytest.raises(InvalidRequest):
        measure.decode(lm, [(2, 3), (10**6,)], 4)
    assert lm.generate((2, 3), max_tokens=2).completion_tokens >= 1
    assert lm.runner.engine.watch is None


def test_prompts_have_their_length_and_differ(smollm2):
    from thermoscope.models.checkpoint import open_checkpoint

    class Words:
        tokenizer = open_checkpoint(smollm2).tokenizer

    texts = [measure.prompt(Words, 600, client=client) for client in range(8)]
    assert {len(text) for text in texts} == {600}
    assert len(set(texts)) == 8
    assert len(measure.prompt(Words, 1)) == 1
