"""Same seed, same tokens, whoever else is there: each request against itself alone, to the bit.

In the native step, that is; through a library's products a tie may fall otherwise (test_one_arithmetic.py).
"""

import queue
import random
from dataclasses import replace

import pytest

from tests import tiny
from tests.answers import finish
from thermoscope.engine.engine import Engine
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.runner import Runner
from thermoscope.models import pack
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.model import Model

SLOTS = 9  # one, and eight others
KINDS = (
    {"temperature": 0.0},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 1.3, "min_p": 0.05, "repetition_penalty": 1.2},
    {"top_k": 20, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    {"temperature": 1.0, "mirostat_tau": 4.0},
    {"temperature": 0.7, "typical_p": 0.9, "profile": "hf"},
)
GRAMMARS = (  # a call of a function is a grammar, too
    Grammar.regex("[a-z]{3,20}"),
    Grammar.json_schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}),
)


def mixed(model, count, *, context, tokens):
    """Requests of every kind over a few beginnings, from a few tokens to nearly the whole context."""
    dice = random.Random(count)
    vocab = model.config.vocab

    def text(length):
        return tuple(dice.randrange(2, vocab) for _ in range(length))

    beginnings = [text(length) for length in (0, 7, context // 8, context // 2)]
    asked = []
    for number in range(count):
        prompt = (*dice.choice(beginnings), *text(dice.randrange(1, context // 8)))
        kind = KINDS[number % len(KINDS)]
        grammar = dice.choice((None, None, *GRAMMARS))
        limit = dice.randrange(1, tokens)
        sampling = Sampling(**kind, seed=number, max_tokens=limit, ignore_eos=grammar is None)
        asked.append(Request(prompt=prompt, sampling=sampling, grammar=grammar))
    return asked


def said(trace):
    """An answer to the bit."""
    numbers = [(step.record.logprob, step.record.entropy, step.record.log_z) for step in trace.steps]
    return trace.text, trace.tokens, numbers


def alone(model, asked, context):
    """What each says with the engine to itself and nothing in the cache that it may take."""
    engine = Engine(model, slots=1, context=context)
    return [said(finish(engine, [replace(request, fresh=True)])[0]) for request in asked]


def among_others(model, asked, context, order, engine):
    """The same, each coming while others are under way, some of whom go away before their end."""
    dice = random.Random(7)
    generations = {}
    for number in order:
        generations[number] = engine.prepare(asked[number])
        engine.submit(generations[number])
        if dice.random() < 0.2:
            gone = engine.prepare(Request(prompt=asked[number].prompt, sampling=Sampling(max_tokens=9)))
            engine.submit(gone)
            engine.step()
            engine.cancel(gone)
        while len(engine.scheduler.waiting) >= 3:
            engine.step()
    while engine.busy:
        engine.step()
    return [generations[number].sequences[0].trace for number in range(len(asked))]


def streamed(model, asked, context):
    """The same through the runner's thread, put together from the deltas."""
    runner = Runner(lambda: Engine(model, slots=SLOTS, context=context))
    try:
        inboxes = [queue.SimpleQueue() for _ in asked]
        for request, inbox in zip(asked, inboxes, strict=True):
            runner.submit(request, inbox.put)
        for inbox in inboxes:
            deltas = []
            while not deltas or deltas[-1].finish_reason is None:
                deltas.append(inbox.get(timeout=120))
            yield "".join(each.text for each in deltas), tuple(each.step.token for each in deltas)
    finally:
        runner.stop()


def hold_to_themselves(model, asked, context):
    expected = alone(model, asked, context)
    order = list(range(len(asked)))
    engine = Engine(model, slots=SLOTS, context=context)
    for attempt in range(2):  # the second time much of each prompt is in the cache
        random.Random(attempt).shuffle(order)
        traces = among_others(model, asked, context, order, engine)
        assert [said(trace) for trace in traces] == expected
    assert sum(trace.cached_tokens for trace in traces) > sum(len(each.prompt) for each in asked) // 3
    assert [each[:2] for each in expected] == list(streamed(model, asked, context))


@pytest.mark.usefixtures("kernel")
def test_forty_requests_on_a_tiny_model(tmp_path):
    checkpoint = open_checkpoint(tiny.save(tiny.reference("llama"), tmp_path))
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, "int4", native=True)))
    model = Model(checkpoint.name, "int4", checkpoint.config, checkpoint.tokenizer, decoder)
    assert model.native
    hold_to_themselves(model, mixed(model, 40, context=256, tokens=12), 256)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.usefixtures("kernel")
def test_two_hundred_requests_on_the_default_model(smollm2):
    model = Model.load(str(smollm2), precision="int4", native=True)
    hold_to_themselves(model, mixed(model, 200, context=512, tokens=24), 512)
