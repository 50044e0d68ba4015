"""The decoding loop on a tiny model: limits, ends, slots. Equal numbers: tests/equivalence."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.scheduler import BESIDE
from thermoscope.errors import ContextExceeded, InvalidRequest, ThermoscopeError
from thermoscope.laws import noise

PROMPT = (10, 20, 30)


def engine_of(model, slots=4, context=64):
    return Engine(model, slots=slots, context=context)


def ask(prompt=PROMPT, record=True, **sampling):
    # Control tokens have no text; without them a token is a character.
    no_control = {0: -100.0, 1: -100.0}
    sampling = {"seed": 1, "max_tokens": 8, "ignore_eos": True, "logit_bias": no_control} | sampling
    return Request(prompt=tuple(prompt), sampling=Sampling(**sampling), record=record)


def start(engine, *requests):
    generations = [engine.prepare(request) for request in requests]
    for generation in generations:
        engine.submit(generation)
    return generations


def finish(engine, *requests):
    """All deltas of some requests, and each request's traces."""
    generations = start(engine, *requests)
    deltas = []
    while engine.busy:
        deltas += [delta for _, delta in engine.step()]
    return deltas, [[sequence.trace for sequence in each.sequences] for each in generations]


def alone(model, request):
    return finish(engine_of(model, slots=1), request)[1][0][0]


def empty(engine):
    return not any(engine.scheduler.running) and not engine.busy


def test_an_answer_has_as_many_tokens_as_were_asked_for(model):
    for wanted in (1, 2, 17):
        trace = alone(model, ask(max_tokens=wanted))
        assert len(trace.steps) == wanted
        assert trace.finish_reason == "length"


def test_deltas_come_one_a_step_and_the_last_has_the_trace(model):
    deltas, [[trace]] = finish(engine_of(model), ask(max_tokens=5))
    assert [delta.step for delta in deltas] == trace.steps
    assert [delta.finish_reason for delta in deltas] == [None] * 4 + ["length"]
    assert [delta.trace for delta in deltas] == [None] * 4 + [trace]
    assert "".join(delta.text for delta in deltas) == trace.text == model.tokenizer.decode(trace.tokens)


def test_a_trace_says_what_spoke_and_with_which_settings(model):
    trace = alone(model, ask(seed=None, max_tokens=None, temperature=math.inf, stop=("zzz",)))
    assert (trace.precision, trace.prompt, trace.choice) == ("fp32", PROMPT, 0)
    assert trace.model == model.name
    assert isinstance(trace.sampling["seed"], int)
    assert trace.sampling["max_tokens"] == 64 - len(PROMPT)
    assert trace.sampling["stop"] == ["zzz"]
    assert trace.prefill_ms > 0
    assert all(step.ms >= 0 for step in trace.steps)


def test_a_saved_trace_of_the_engine_loads_equal(model, tmp_path):
    request = ask(temperature=math.inf, top_k=5, logit_bias={3: 1.5}, stop_ids=(7,))
    trace = alone(model, request)
    trace.save(tmp_path / "trace.json")
    assert type(trace).load(tmp_path / "trace.json") == trace


def test_the_models_own_end_stops_it_without_showing(model):
    request = ask(logit_bias={1: 100.0}, ignore_eos=False)
    trace = alone(model, request)
    assert trace.finish_reason == "stop"
    assert trace.tokens == (1,)
    assert (trace.text, trace.steps[0].text, trace.steps[0].bytes) == ("", "", b"")
    onward = alone(model, ask(logit_bias={1: 100.0}, ignore_eos=True))
    assert onward.finish_reason == "length"
    assert len(onward.tokens) == 8


def test_a_stop_id_ends_an_answer_also_where_the_models_end_is_ignored(model):
    free = alone(model, ask())
    stopped = alone(model, ask(stop_ids=(free.tokens[4],)))
    first = free.tokens.index(free.tokens[4])
    assert stopped.tokens == free.tokens[: first + 1]
    assert stopped.finish_reason == "stop"
    assert stopped.text == model.tokenizer.decode(free.tokens[:first])


def test_a_stop_string_over_many_tokens_ends_an_answer_and_is_cut(model):
    free = alone(model, ask(max_tokens=20))
    stop = free.text[6:12]
    assert free.text.count(stop) == 1
    deltas, [[trace]] = finish(engine_of(model), ask(max_tokens=20, stop=(stop,)))
    assert trace.finish_reason == "stop"
    assert trace.text == free.text[:6] == "".join(delta.text for delta in deltas)
    assert trace.tokens == free.tokens[:12]
    assert deltas[-1].text == ""


def test_a_stop_string_in_the_last_token_wins_over_the_limit(model):
    free = alone(model, ask(max_tokens=6))
    trace = alone(model, ask(max_tokens=6, stop=(free.text[4:6],)))
    assert free.text[4:6] not in free.text[:5]
    assert (trace.finish_reason, trace.text) == ("stop", free.text[:4])


def test_what_could_have_become_a_stop_string_is_shown_at_the_limit(model):
    free = alone(model, ask(max_tokens=6))
    deltas, [[trace]] = finish(engine_of(model), ask(max_tokens=6, stop=(free.text[4:6] + "~~~",)))
    assert (trace.finish_reason, trace.text) == ("length", free.text)
    assert [delta.text for delta in deltas[-2:]] == ["", free.text[4:6]]


def test_the_context_can_be_filled_to_the_last_token(model):
    engine = engine_of(model, context=16)
    for prompt, limit, wanted in ((15, None, 1), (12, 4, 4), (1, None, 15), (8, None, 8)):
        _, [[trace]] = finish(engine, ask([5] * prompt, max_tokens=limit))
        assert len(trace.steps) == wanted
        assert trace.finish_reason == "length"
        assert empty(engine)


@pytest.mark.parametrize(("prompt", "limit"), [(16, None), (17, None), (16, 1), (12, 5), (1, 16)])
def test_a_request_that_does_not_fit_the_context_is_refused_with_the_numbers(model, prompt, limit):
    with pytest.raises(ContextExceeded, match=rf"got {prompt} tokens .* at most 16 ") as caught:
        engine_of(model, context=16).prepare(ask([5] * prompt, max_tokens=limit))
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("param", "request_"),
    [
        ("prompt", ask([5, tiny.VOCAB])),
        ("prompt", ask([-1])),
        ("logit_bias", ask(logit_bias={tiny.VOCAB: 1.0})),
        ("stop_ids", ask(stop_ids=(3, 10**9))),
    ],
)
def test_ids_out_of_the_vocabulary_are_refused_by_field(model, param, request_):
    with pytest.raises(InvalidRequest, match=rf"^{param}: got token id .* expected 0 to 95") as caught:
        engine_of(model).prepare(request_)
    assert caught.value.param == param


def test_the_last_id_of_the_vocabulary_is_taken(model):
    last = tiny.VOCAB - 1
    trace = alone(model, ask([last], logit_bias={last: 100.0}, stop_ids=(last,)))
    assert trace.tokens == (last,)


def test_an_empty_prompt_is_refused(model):
    with pytest.raises(InvalidRequest, match="got no tokens"):
        engine_of(model).prepare(ask([]))


def test_a_cancelled_answer_frees_its_slot_and_leaves_the_others_as_they_were(model):
    requests = [ask((10 + each, 20), seed=each, max_tokens=20) for each in range(4)]
    engine = engine_of(model, slots=3)
    gone, *others = start(engine, *requests)
    for _ in range(4):
        engine.step()
    assert [sequence is not None for sequence in engine.scheduler.running] == [True] * 3
    assert others[2].sequences[0].slot is None
    engine.cancel(gone)
    assert engine.scheduler.running[0] is None
    engine.step()
    assert others[2].sequences[0].slot == 0
    while engine.busy:
        engine.step()
    assert len(gone.sequences[0].trace.steps) == 4
    for request, generation in zip(requests[1:], others, strict=True):
        assert generation.sequences[0].trace.tokens == alone(model, request).tokens
    engine.cancel(gone)  # twice, and after all is over
    assert empty(engine)


def test_a_waiting_answer_can_be_cancelled(model):
    engine = engine_of(model, slots=1)
    first, second = start(engine, ask(), ask())
    engine.step()
    engine.cancel(second)
    while engine.busy:
        engine.step()
    assert len(first.sequences[0].trace.steps) == 8
    assert second.sequences[0].trace.steps == []


def test_choices_differ_by_the_noise_of_their_index(model):
    request = ask(n=5, seed=42, temperature=1.5, max_tokens=6, logit_bias={})
    _, [traces] = finish(engine_of(model), request)
    assert [trace.choice for trace in traces] == list(range(5))
    assert len({trace.tokens for trace in traces}) == 5
    for trace in traces:
        logits = replay(model, [*PROMPT, *trace.tokens], logits=True).logits[len(PROMPT) - 1 : -1]
        for position, row in enumerate(logits.double().numpy()):
            dice = noise.gumbel(42, trace.choice, position, np.arange(tiny.VOCAB))
            assert trace.tokens[position] == (row / 1.5 + dice).argmax()


def test_the_first_choice_is_what_one_choice_gives(model):
    _, [traces] = finish(engine_of(model), ask(n=3))
    assert traces[0].tokens == alone(model, ask()).tokens


def test_without_a_seed_two_requests_differ_and_a_seed_repeats(model):
    _, [[a], [b], [c], [d]] = finish(
        engine_of(model), ask(seed=None), ask(seed=None), ask(seed=5), ask(seed=5)
    )
    assert a.tokens != b.tokens
    assert a.sampling["seed"] != b.sampling["seed"]
    assert c.tokens == d.tokens
    assert alone(model, ask(seed=a.sampling["seed"])).tokens == a.tokens


def test_more_requests_than_slots_all_come_to_their_own_end(model):
    requests = [ask((10 + each,), seed=each, max_tokens=1 + each % 5) for each in range(11)]
    engine = engine_of(model, slots=2)
    _, traces = finish(engine, *requests)
    for request, [trace] in zip(requests, traces, strict=True):
        assert trace.tokens == alone(model, request).tokens
    assert empty(engine)


def test_a_hundred_and_twenty_eight_choices_run_on_eight_slots(model):
    engine = engine_of(model, slots=8)
    deltas, [traces] = finish(engine, ask(n=128, max_tokens=3))
    assert sum(delta.finish_reason == "length" for delta in deltas) == 128
    assert {len(trace.tokens) for trace in traces} == {3}
    assert len({trace.tokens for trace in traces}) > 100
    assert traces[127].tokens == next(
        delta.trace.tokens for delta in deltas if delta.choice == 127 and delta.trace
    )
    assert empty(engine)


def test_a_long_prompt_enters_in_chunks_while_others_speak(model):
    engine = Engine(model, slots=2, context=700)
    assert engine.scheduler.whole  # the tiny model runs through a library's products
    engine.scheduler.whole = False
    [talker] = start(engine, ask(max_tokens=30))
    engine.step()
    long = ask([7] * (BESIDE + 5), max_tokens=2)
    [reader] = start(engine, long)
    spoken = [len(engine.step()) for _ in range(3)]
    assert spoken == [1, 2, 2]
    while engine.busy:
        engine.step()
    _, [[expected]] = finish(Engine(model, slots=1, context=700), long)
    assert reader.sequences[0].trace.tokens == expected.tokens
    assert len(talker.sequences[0].trace.tokens) == 30


def test_without_records_steps_are_bare_and_tokens_the_same(model):
    with_records, without = alone(model, ask()), alone(model, ask(record=False))
    assert with_records.tokens == without.tokens
    assert all(step.record is None for step in without.steps)
    assert all(step.record is not None for step in with_records.steps)


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 0}, {"top_p": 0.5}, {"top_k": 3, "repetition_penalty": 1.5}]
)
def test_a_delta_tells_entropy_and_kept_tokens_as_the_record_does_and_without_one(model, sampling):
    recorded, [[trace]] = finish(engine_of(model), ask(**sampling))
    bare, _ = finish(engine_of(model), ask(record=False, **sampling))
    told = [(step.record.entropy, step.record.kept) for step in trace.steps]
    assert [(delta.entropy, delta.kept) for delta in recorded] == told
    assert [(delta.entropy, delta.kept) for delta in bare] == told


def test_penalties_see_the_prompt_and_the_answer(model):
    """With a penalty that outweighs every logit, no token comes twice, nor one of the prompt."""
    trace = alone(model, ask(range(2, 40), max_tokens=20, temperature=0, repetition_penalty=1e6))
    positive = [step for step in trace.steps if step.record.logprob > -5]
    assert len({*trace.tokens}) == 20
    assert positive
    assert not {*trace.tokens} & {*range(2, 40)}


def test_damaged_weights_are_a_clear_error(model):
    decoder = copy.copy(model.decoder)
    decoder.final_norm = torch.full_like(decoder.final_norm, math.nan)
    engine = engine_of(dataclasses.replace(model, decoder=decoder))
    start(engine, ask())
    ((_, error),) = engine.step()
    assert isinstance(error, ThermoscopeError)
    assert "the weights are damaged" in str(error)
    assert empty(engine)


def test_an_engine_is_busy_until_the_last_answer_ends(model):
    engine = engine_of(model)
    assert not engine.busy
    start(engine, ask(max_tokens=2), ask(max_tokens=3))
    assert engine.busy
    assert [len(engine.step()) for _ in range(4)] == [1, 2, 1, 1]
    assert empty(engine)
