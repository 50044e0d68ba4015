"""What is taken from earlier answers is what computing it anew would give, and only where that is so."""

import random

import pytest
import torch

from tests.answers import finish
from thermoscope.engine.engine import Engine
from thermoscope.engine.prefixes import _common
from thermoscope.engine.request import Request, Sampling
from thermoscope.models.cache import Span
from thermoscope.models.intervention import Add

TEXT = tuple(2 + at * 7 % 90 for at in range(60))


def ask(prompt, **more):
    sampling = {"seed": 3, "max_tokens": 5, "ignore_eos": True} | more.pop("sampling", {})
    return Request(prompt=tuple(prompt), sampling=Sampling(**sampling), **more)


def engine_of(model, slots=2):
    return Engine(model, slots=slots, context=128)


def rows_of(engine, *requests):
    """Tokens that went through the layers for these requests, and their first answers' traces."""
    rows, forward = [], engine.model.decoder.forward

    def counting(tokens, *more):
        rows.append(len(tokens))
        return forward(tokens, *more)

    engine.model.decoder.forward = counting
    try:
        return sum(rows), finish(engine, requests), sum(rows)
    finally:
        del engine.model.decoder.forward


def cached(engine, *requests):
    return [trace.cached_tokens for trace in finish(engine, requests)]


def test_a_prompt_that_begins_as_an_earlier_one_computes_only_the_rest(model):
    engine = engine_of(model)
    assert cached(engine, ask(TEXT[:40])) == [0]
    _, [trace], rows = rows_of(engine, ask([*TEXT[:30], 4, 5, 6]))
    assert trace.cached_tokens == 30
    assert rows == 3 + 4  # the rest of the prompt, and all tokens of the answer but the last
    [alone] = finish(engine_of(model), [ask([*TEXT[:30], 4, 5, 6])])
    assert trace.tokens == alone.tokens


def test_the_same_prompt_again_runs_its_last_token_which_has_to_speak(model):
    engine = engine_of(model)
    [first] = finish(engine, [ask(TEXT)])
    [again] = finish(engine, [ask(TEXT)])
    assert (first.cached_tokens, again.cached_tokens) == (0, len(TEXT) - 1)
    assert again.tokens == first.tokens


def test_a_conversation_goes_on_in_the_slot_where_it_stands(model):
    engine = engine_of(model, slots=3)
    [first] = finish(engine, [ask(TEXT[:20])])
    finish(engine, [ask(TEXT[40:50])])
    onward = [*TEXT[:20], *first.tokens, 9, 10]
    generation = engine.prepare(ask(onward))
    engine.submit(generation)
    engine.step()
    assert generation.sequences[0].slot == 0
    # The last token of the answer was drawn and never run.
    assert generation.sequences[0].trace.cached_tokens == 20 + 4
    assert engine.cache.lengths[1] == 10 + 4  # what another one left is still there


def test_what_came_longest_ago_makes_room(model):
    engine = engine_of(model, slots=2)
    old, new = TEXT[:20], TEXT[20:40]
    finish(engine, [ask(old)])
    finish(engine, [ask(new)])
    finish(engine, [ask(TEXT[40:60])])
    assert cached(engine, ask(new)) == [19]
    assert cached(engine, ask(old)) == [0]


def test_a_beginning_is_copied_from_an_answer_that_is_still_spoken(model):
    engine = engine_of(model)
    long = engine.prepare(ask(TEXT[:40], sampling={"max_tokens": 50}))
    engine.submit(long)
    engine.step()
    other = ask([*TEXT[:35], 9, 9], sampling={"seed": 8})
    [trace] = finish(engine, [other])
    assert trace.cached_tokens == 35
    assert trace.tokens == finish(engine_of(model), [other])[0].tokens
    [alone] = finish(engine_of(model), [ask(TEXT[:40], sampling={"max_tokens": 50})])
    assert long.sequences[0].trace.tokens == alone.tokens


def test_many_answers_to_one_prompt_compute_it_once(model):
    request = ask(TEXT, sampling={"n": 6})
    engine = engine_of(model, slots=4)
    _, _, rows = rows_of(engine, request)
    assert rows == len(TEXT) + 5 * 1 + 6 * 4
    generation = engine.prepare(request)
    engine.submit(generation)
    while engine.busy:
        engine.step()
    for sequence in generation.sequences:
        fresh = engine_of(model).prepare(ask(TEXT, fresh=True, sampling={"n": 6})).sequences
        assert sequence.trace.cached_tokens == len(TEXT) - 1
        assert len(fresh) == 6


def test_prompts_that_came_together_share_what_the_first_one_computes(model):
    requests = [ask([*TEXT[:50], at, at + 1]) for at in (5, 15, 25)]
    assert cached(engine_of(model, slots=3), *requests) == [0, 50, 50]


def test_steering_shares_nothing_but_with_the_same_request(model):
    push = (Add(1, torch.ones(model.config.hidden)),)
    engine = engine_of(model)
    assert cached(engine, ask(TEXT)) == [0]
    assert cached(engine, ask(TEXT, steer=push)) == [0]
    assert cached(engine, ask(TEXT, steer=(Add(1, torch.ones(model.config.hidden)),))) == [0]
    assert cached(engine, ask(TEXT)) == [0]  # both slots were taken by steered answers
    generation = engine.prepare(ask(TEXT, steer=push, sampling={"n": 2}))
    engine.submit(generation)
    while engine.busy:
        engine.step()
    assert generation.sequences[1].trace.cached_tokens == len(TEXT) - 1


def test_a_fresh_request_takes_nothing(model):
    engine = engine_of(model)
    assert cached(engine, ask(TEXT)) == [0]
    assert cached(engine, ask(TEXT, fresh=True)) == [0]
    assert cached(engine, ask(TEXT)) == [len(TEXT) - 1]


def test_an_answer_that_was_cancelled_on_the_way_leaves_what_it_had_computed(model):
    engine = engine_of(model)
    engine.scheduler.whole = False  # so that a prompt is read in parts
    talker = engine.prepare(ask(TEXT[50:], sampling={"max_tokens": 60}))
    engine.submit(talker)
    engine.step()
    gone = engine.prepare(ask(TEXT))
    engine.submit(gone)
    engine.step()
    computed = gone.sequences[0].filled
    assert 0 < computed < len(TEXT) - 1
    engine.cancel(gone)
    assert cached(engine, ask(TEXT)) == [computed]


def test_common_beginnings_are_those_of_a_loop():
    dice = random.Random(7)
    for _ in range(500):
        one, other = ([dice.randrange(2) for _ in range(dice.randrange(12))] for _ in range(2))
        most = dice.randrange(min(len(one), len(other)) + 1)
        wanted = 0
        while wanted < most and one[wanted] == other[wanted]:
            wanted += 1
        assert _common(one, tuple(other), most) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_and_goes_slots_hold_what_one_pass_gives_and_answers_are_their_own(model, seed):
    """Forty requests over few beginnings, some cancelled, some together; every slot compared at the end."""
    dice = random.Random(seed)
    engine, held = engine_of(model, slots=3), []
    for number in range(40):
        start = TEXT[: dice.choice((5, 17, 40))]
        request = ask(
            [*start, *(dice.randrange(2, 90) for _ in range(dice.randrange(1, 6)))], sampling={"seed": number}
        )
        held.append((request, engine.prepare(request)))
        engine.submit(held[-1][1])
        for _ in range(dice.randrange(6)):
            engine.step()
        if dice.random() < 0.2:
            engine.cancel(held.pop()[1])
    while engine.busy:
        engine.step()
    assert sum(each.sequences[0].trace.cached_tokens for _, each in held) > 200
    for request, generation in held:
        [alone] = finish(engine_of(model), [request])
        assert generation.sequences[0].trace.tokens == alone.tokens
    for slot, there in enumerate(engine.scheduler.prefixes._held):
        length = engine.cache.lengths[slot]
        cache = model.cache(slots=1, context=128)
        with torch.inference_mode():
            model.decoder.forward(there.tokens[:length], [Span(0, 0, length)], cache)
        mine = slice(slot * cache.kv_heads, (slot + 1) * cache.kv_heads)
        torch.testing.assert_close(engine.cache.keys[:, mine, :length], cache.keys[:, :, :length])
        torch.testing.assert_close(engine.cache.values[:, mine, :length], cache.values[:, :, :length])
