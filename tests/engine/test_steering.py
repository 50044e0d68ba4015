"""An answer that is steered: what is added, to whom, and what its neighbours see of it."""

import pytest
import torch

from tests.answers import finish
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.trace import Trace
from thermoscope.errors import InvalidRequest
from thermoscope.models.intervention import Add

PROMPT = (10, 20, 30, 11)
SAMPLING = Sampling(temperature=0.8, seed=3, max_tokens=24, ignore_eos=True)


@pytest.fixture(scope="module")
def vector(model):
    return torch.randn(model.config.hidden, generator=torch.Generator().manual_seed(2))


def spoken(model, requests, slots=4):
    return finish(Engine(model, slots=slots, context=64), requests)


def request(*steer, prompt=PROMPT):
    return Request(prompt=prompt, sampling=SAMPLING, steer=steer)


def test_requests_side_by_side_do_not_touch_each_other(model, vector):
    asked = [request(), request(Add(1, vector)), request(Add(0, -vector), Add(2, vector)), request()]
    together = spoken(model, asked)
    alone = [spoken(model, [each], slots=1)[0] for each in asked]
    assert [trace.tokens for trace in together] == [trace.tokens for trace in alone]
    assert together[0].tokens == together[3].tokens
    assert len({trace.tokens for trace in together}) == 3


def test_a_vector_of_zeros_changes_nothing(model, vector):
    plain, same = spoken(model, [request(), request(Add(1, 0 * vector))])
    assert plain.tokens == same.tokens
    logprobs = [[step.record.logprob for step in trace.steps] for trace in (plain, same)]
    assert logprobs[0] == pytest.approx(logprobs[1], abs=1e-4)


def test_what_a_steered_answer_recorded_is_what_a_replay_with_the_same_vectors_sees(model, vector):
    steer = (Add(0, vector), Add(2, -0.5 * vector))
    (trace,) = spoken(model, [request(*steer)])
    tokens = [*trace.prompt, *trace.tokens]
    assert replay(model, tokens, interventions=steer).logprob_residual(trace) <= 1e-4
    recorded = torch.tensor([step.record.logprob for step in trace.steps], dtype=torch.float64)
    plain = replay(model, tokens)
    assert (plain.logprobs[-len(recorded) :] - recorded).abs().max() > 0.01
    with pytest.raises(InvalidRequest, match=f"steered with {trace.steered}, and a replay without a vector"):
        plain.logprob_residual(trace)
    with pytest.raises(InvalidRequest, match="expected the same vectors in both"):
        replay(model, tokens, interventions=steer[:1]).logprob_residual(trace)


def test_a_trace_says_what_steered_it(model, vector, tmp_path):
    plain, steered, same, twice = (
        spoken(model, [request(*steer)])[0]
        for steer in ((), (Add(1, vector),), (Add(1, vector.clone()),), (Add(1, 2 * vector),))
    )
    assert plain.steered is None
    assert steered.steered == same.steered != twice.steered
    steered.save(tmp_path / "trace.json")
    assert Trace.load(tmp_path / "trace.json").steered == steered.steered


def test_a_vector_that_leads_out_of_the_numbers_ends_its_own_answer_alone(model, vector):
    alone = spoken(model, [request()], slots=1)[0].tokens
    engine = Engine(model, slots=2, context=64)
    away = engine.prepare(
        request(Add(1, torch.full_like(vector, 3e38)), Add(2, torch.full_like(vector, 3e38)))
    )
    beside = engine.prepare(request())
    engine.submit(away)
    engine.submit(beside)
    said = [pair for _ in range(30) if engine.busy for pair in engine.step()]
    errors = [each for sequence, each in said if sequence is away.sequences[0]]
    assert [str(each)[:34] for each in errors] == ["logits: got NaN or infinity, expec"]
    assert beside.sequences[0].trace.tokens == alone
    for _ in range(2):  # in the slot of either
        assert finish(engine, [request()])[0].tokens == alone


@pytest.mark.parametrize("steps", [1, 40])
def test_what_led_out_of_the_numbers_is_not_left_to_others(model, vector, steps):
    """Neighbouring slots are read together, as far as the longest is filled."""
    long = tuple(range(10, 50))
    alone = [spoken(model, [request(prompt=each)], slots=1)[0].tokens for each in (PROMPT, long[::-1])]
    engine = Engine(model, slots=2, context=64)
    away = Add(1, torch.full_like(vector, 3e38)), Add(2, torch.full_like(vector, 3e38))
    gone = [engine.prepare(request(*away, prompt=long)) for _ in range(2)]
    for each in gone:
        engine.submit(each)
    for _ in range(steps):
        if engine.busy:
            engine.step()
    for each in gone:
        engine.cancel(each)
    after = finish(engine, [request(), request(prompt=long[::-1])])
    assert [trace.tokens for trace in after] == alone


def test_a_slot_used_again_is_not_steered(model, vector):
    steered, after = spoken(model, [request(Add(1, vector)), request()], slots=1)
    assert after.tokens == spoken(model, [request()])[0].tokens != steered.tokens


def test_every_way_in_takes_it(model, vector):
    with LanguageModel(lambda: Engine(model, slots=2, context=64)) as lm:
        how = {"temperature": 0, "max_tokens": 8, "ignore_eos": True, "steer": [Add(1, 3 * vector)]}
        expected = lm.generate(PROMPT, **how).trace.tokens
        *_, last = lm.stream(PROMPT, **how)
        assert last.trace.tokens == expected
        assert lm.generate(PROMPT, **how | {"steer": ()}).trace.tokens != expected
        with pytest.raises(InvalidRequest, match="add: layer: got 7, expected 0 to 3"):
            lm.generate(PROMPT, steer=[Add(7, vector)])
        with pytest.raises(InvalidRequest, match="add: got NaN or infinity in a tensor"):
            lm.generate(PROMPT, steer=[Add(1, vector / 0)])
        with pytest.raises(InvalidRequest, match=r"add: got a tensor of shape \[2\], expected \[64\]"):
            lm.generate(PROMPT, steer=[Add(1, vector[:2])])
