"""Answers held to a grammar, on a tiny model and on the default one's words."""

import json
import re

import numpy as np
import pytest

from tests.answers import finish
from thermoscope.engine.engine import Engine
from thermoscope.engine.grammar import Grammar
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann

PROMPT = (10, 20, 30)
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"enum": ["x", "yy", None]}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def ask(grammar, **sampling):
    return Request(
        prompt=PROMPT, sampling=Sampling(**{"seed": 1, "max_tokens": 64} | sampling), grammar=grammar
    )


def answers(model, grammar, count=20, **sampling):
    engine = Engine(model, slots=4, context=128)
    return finish(engine, [ask(grammar, seed=seed, **sampling) for seed in range(count)])


def test_a_schema_holds_every_answer(model):
    seen = set()
    for trace in answers(model, Grammar.json_schema(SCHEMA)):
        value = json.loads(trace.text)
        assert trace.finish_reason == "stop"
        assert list(value) == ["a", "b"]
        assert 0 <= value["a"] <= 99
        assert value["b"] in ("x", "yy", None)
        seen.add(value["b"])
    assert len(seen) > 1  # the mask leaves the choice to the model


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar.regex("(ab|c){2,3}"), "(ab|c){2,3}"),
        (Grammar.choice(["yes", "yet", "no"]), "yes|yet|no"),
        (Grammar.lark('start: "(" inner ")"\ninner: /[a-c]/ | start'), r"\(+[a-c]\)+"),
        (Grammar.choice(['"\\\n', "/"]), r'"\\\n|/'),
    ],
)
def test_every_kind_of_grammar_holds(model, grammar, pattern):
    finished = [trace for trace in answers(model, grammar) if trace.finish_reason == "stop"]
    assert len(finished) > 10
    for trace in finished:
        assert re.fullmatch(pattern, trace.text)


def test_the_end_comes_only_where_the_grammar_may_end(model):
    for trace in answers(model, Grammar.regex("a{3}b*"), logit_bias={1: 100.0}):
        assert trace.text == "aaa"
        assert trace.tokens[-1] == 1
        assert trace.finish_reason == "stop"


def test_an_answer_that_is_complete_needs_no_end_token(model):
    for trace in answers(model, Grammar.regex("a{3}"), count=2):
        assert trace.text == "aaa"
        assert len(trace.steps) == 3
        assert trace.finish_reason == "stop"


def test_an_answer_cut_short_says_so(model):
    trace = answers(model, Grammar.regex("a{9}"), count=1, max_tokens=8)[0]
    assert (trace.text, trace.finish_reason) == ("a" * 8, "length")
    assert answers(model, Grammar.regex("a{8}"), count=1, max_tokens=8)[0].finish_reason == "stop"


def test_the_record_is_of_the_models_own_distribution_and_says_what_the_mask_took(model):
    trace = answers(model, Grammar.json_schema(SCHEMA), count=1, temperature=0.7, top_p=0.9)[0]
    logits = replay(model, [*trace.prompt, *trace.tokens], logits=True).logits.numpy().astype(np.float64)
    guide = Engine(model, slots=1, context=8).guides.guide(Grammar.json_schema(SCHEMA))
    for index, step in enumerate(trace.steps):
        row, record = logits[len(trace.prompt) + index - 1], step.record
        logprobs = row - np.log(np.exp(row).sum())
        allowed = guide.allowed()
        guide.accept(step.token)
        assert record.logprob == pytest.approx(logprobs[step.token], abs=1e-5)
        assert record.constraint.allowed == len(allowed)
        assert record.constraint.work == pytest.approx(-np.log(np.exp(logprobs[allowed]).sum()), abs=1e-5)
        assert record.constraint.removed_mass == pytest.approx(1 - np.exp(logprobs[allowed]).sum(), abs=1e-5)
        # what was drawn from is the nucleus of what the mask left
        tempered = np.sort(boltzmann.log_probabilities(row[allowed], 0.7))[::-1]
        kept = int(np.searchsorted(np.exp(tempered).cumsum(), 0.9 - 1e-9)) + 1
        assert record.kept == kept
        mine = boltzmann.log_probabilities(row[allowed], 0.7)[allowed == step.token][0]
        assert record.sampler_logprob == pytest.approx(mine - np.log(np.exp(tempered[:kept]).sum()), abs=1e-5)
    assert guide.complete


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 0.8, "top_k": 3},
        {"temperature": 0.8, "top_p": 0.7, "profile": "llama.cpp"},
        {"temperature": 1.2, "presence_penalty": 1.5, "frequency_penalty": 0.5},
        {"typical_p": 0.7},
        {"mirostat_tau": 2.0},
    ],
)
def test_the_draw_is_that_of_a_vocabulary_without_the_other_tokens(model, settings):
    """The slow way: the other tokens' logits so low that they are out of every set, and the same noise."""
    grammar = Grammar.regex("[a-p]{12}")
    for trace in answers(model, grammar, count=6, **settings):
        assert re.fullmatch("[a-p]{12}", trace.text)
        forbid = {token: -100.0 for token in range(96) if not 66 <= token <= 81}
        plain = finish(
            Engine(model, slots=1, context=64),
            [
                Request(
                    prompt=PROMPT,
                    sampling=Sampling(**settings | {
                        "seed": trace.sampling["seed"], "max_tokens": 12, "logit_bias": forbid
                    }),
                )
            ],
        )[0]  # fmt: skip
        assert plain.tokens == trace.tokens


def test_the_same_seed_gives_the_same_tokens_in_any_company(model):
    grammar = Grammar.json_schema(SCHEMA)
    alone = [finish(Engine(model, slots=1, context=128), [ask(grammar, seed=seed)])[0] for seed in range(6)]
    plain = Request(prompt=(7, 8), sampling=Sampling(seed=5, max_tokens=30, ignore_eos=True))
    engine = Engine(model, slots=8, context=128)
    among = finish(engine, [plain, *(ask(grammar, seed=seed) for seed in range(6)), plain])[1:-1]
    assert [trace.tokens for trace in among] == [trace.tokens for trace in alone]


def test_n_answers_stand_each_where_it_is(model):
    engine = Engine(model, slots=4, context=128)
    generation = engine.prepare(ask(Grammar.json_schema(SCHEMA), n=4))
    engine.submit(generation)
    while engine.busy:
        engine.step()
    texts = [sequence.trace.text for sequence in generation.sequences]
    assert all(json.loads(text)["b"] in ("x", "yy", None) for text in texts)
    assert len(set(texts)) > 1


def test_what_the_vocabulary_cannot_spell_ends_that_answer_alone(model):
    engine = Engine(model, slots=2, context=128)
    generations = [engine.prepare(ask(Grammar.regex("a(é|ü)"))), engine.prepare(ask(Grammar.regex("b{9}")))]
    for generation in generations:
        engine.submit(generation)
    outcomes = []
    while engine.busy:
        outcomes += [delta for _, delta in engine.step() if not getattr(delta, "text", None)]
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], InvalidRequest)
    assert generations[1].sequences[0].trace.text == "b" * 9
    assert not any(engine.scheduler.running)


def test_a_grammar_that_cannot_be_used_is_refused_when_the_request_is_prepared(model):
    engine = Engine(model, slots=1, context=128)
    for grammar in (Grammar.regex("("), Grammar.lark("start: nothing"), Grammar.json_schema({"enum": []})):
        with pytest.raises(InvalidRequest, match=r"^grammar: got a .* that cannot be used \(.+\), expected"):
            engine.prepare(ask(grammar))
    with pytest.raises(InvalidRequest, match="ignore_eos: got true beside a grammar"):
        engine.prepare(ask(Grammar.regex("a"), ignore_eos=True))


def test_a_control_token_is_in_the_text_only_where_it_is_to_be_shown(model):
    """As Mistral's models mark a call: by a token that is otherwise no text."""
    grammar = Grammar.lark('start: "a" <[0]> "b"')
    for shown, text in ((frozenset(), "ab"), (frozenset({0}), "a<s>b")):
        engine = Engine(model, slots=1, context=64)
        (trace,) = finish(engine, [Request(prompt=PROMPT, grammar=grammar, shown=shown)])
        assert trace.text == text
        assert trace.tokens[1] == 0


def test_python_holds_an_answer_to_a_grammar(model):
    with LanguageModel(lambda: Engine(model, slots=2, context=64)) as lm:
        said = lm.generate(PROMPT, grammar=Grammar.choice(["left", "right"]), seed=1)
        assert said.text in ("left", "right")
        assert lm.chat("hi", grammar=Grammar.regex("a{3}"), seed=1).text == "aaa"
        assert "".join(delta.text for delta in lm.stream("hi", grammar=Grammar.regex("b{3}"))) == "bbb"
        with pytest.raises(InvalidRequest, match=r"^grammar: got a regular expression"):
            lm.generate("hi", grammar=Grammar.regex("("))
