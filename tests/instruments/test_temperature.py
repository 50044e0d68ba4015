"""The card `temperature`, against PyTorch's softmax and the engine's own answers."""

import json
import math

import numpy as np
import pytest
import torch

from thermoscope import instruments
from thermoscope.engine.replay import replay
from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.source import File
from thermoscope.instruments.temperature import Settings, _distributions, _solved
from thermoscope.laws import boltzmann

PROMPT = "The capital of France is"


@pytest.fixture
def take(lm):
    return lambda **settings: instruments.read("temperature", model=lm, **({"prompt": PROMPT} | settings))


@pytest.fixture(scope="module")
def logits(lm):
    tokens = lm.tokenizer.prompt(PROMPT)
    whole = lm.runner.call(lambda: replay(lm.model, tokens, logits=True).logits)
    return whole[-1].double()


def rows(reading, name):
    return reading.to_dict()["tables"][name]["rows"]


def test_the_distribution_is_torch_s_softmax(take, logits):
    reading = take(temperatures=[0.2, 1.0, 1.5], top=5, samples=0)
    for row in rows(reading, "distribution"):
        for temperature in (0.2, 1.0, 1.5):
            p = torch.softmax(logits / temperature, dim=-1)[row["id"]].item()
            assert row[f"p_{temperature:g}"] == pytest.approx(p, rel=1e-9)
    assert [row["id"] for row in rows(reading, "distribution")] == logits.topk(5).indices.tolist()


def test_entropy_and_choices_at_each_temperature(take, logits):
    for row in rows(take(temperatures=[0.3, 1, 7], samples=0), "temperatures"):
        p = torch.softmax(logits / row["temperature"], dim=-1)
        entropy = torch.distributions.Categorical(probs=p).entropy().item()
        assert row["entropy"] == pytest.approx(entropy, rel=1e-6)
        assert row["entropy_bits"] == pytest.approx(row["entropy"] / math.log(2))
        assert row["perplexity"] == pytest.approx(math.exp(entropy), rel=1e-6)
        assert row["effective"] == pytest.approx(1 / (p**2).sum().item(), rel=1e-9)
        assert row["top_probability"] == pytest.approx(p.max().item(), rel=1e-9)
        raw = torch.log_softmax(logits, dim=-1)
        assert row["kl_from_1"] == pytest.approx((p * (p.log() - raw)).sum().item(), abs=1e-9)


def test_both_ends_are_values(take, lm):
    zero, infinite = rows(take(temperatures=[0, math.inf], samples=1, max_tokens=4), "temperatures")
    assert (zero["entropy"], zero["top_probability"], zero["effective"]) == (0, 1, 1)
    assert infinite["entropy"] == pytest.approx(math.log(lm.config.vocab))
    assert infinite["top_probability"] == pytest.approx(1 / lm.config.vocab)


def test_the_number_of_choices_is_said_in_full(take, lm):
    certain, level = take(temperatures=[0, math.inf], samples=0).findings
    assert "has 1 choice (perplexity)" in certain
    assert f"has {lm.config.vocab:,} choices (perplexity)" in level


def test_a_wanted_value_gets_its_temperature(take, logits):
    reading = take(entropy=2.0, perplexity=5.0, top_probability=0.5, samples=0)
    found = {row["quantity"]: row["temperature"] for row in rows(reading, "solved")}
    entropy = {
        key: torch.distributions.Categorical(logits=logits / temperature).entropy().item()
        for key, temperature in found.items()
    }
    assert entropy["entropy"] == pytest.approx(2.0, rel=1e-6)
    assert math.exp(entropy["perplexity"]) == pytest.approx(5.0, rel=1e-6)
    assert torch.softmax(logits / found["top_probability"], dim=-1).max().item() == pytest.approx(0.5)


def test_the_continuations_are_the_engine_s_with_the_same_dice(take, lm):
    reading = take(temperatures=[0.2, 0.7, 2.0], samples=2, max_tokens=8, seed=5)
    said = {(row["temperature"], row["choice"]): row for row in rows(reading, "continuations")}
    before = {}
    for temperature in (0.2, 0.7, 2.0):
        reply = lm.generate(PROMPT, temperature=temperature, seed=5, n=2, max_tokens=8)
        for trace in reply.traces:
            row = said[temperature, trace.choice]
            assert row["text"] == trace.text
            shared = None
            if trace.choice in before:
                pairs = zip(trace.tokens, before[trace.choice], strict=False)
                shared = len([*_while_equal(pairs)])
            assert row["shared"] == shared
            before[trace.choice] = trace.tokens


def _while_equal(pairs):
    for one, other in pairs:
        if one != other:
            return
        yield one


def test_a_temperature_named_twice_is_read_once(take):
    assert len(rows(take(temperatures=[1, 1.0, 2], samples=0), "temperatures")) == 2


def test_a_chat_is_another_prompt(take, lm):
    reading = take(prompt="Name a colour.", chat=True, samples=1, max_tokens=6)
    reply = lm.chat("Name a colour.", temperature=0.2, seed=0, max_tokens=6)
    assert rows(reading, "continuations")[0]["text"] == reply.text


def test_tokens_of_the_same_text_have_bars_of_their_own(take, lm):
    reading = take(prompt="\u4e16", top=1000, samples=0, temperatures=[1])
    texts = [row["token"] for row in rows(reading, "distribution")]
    assert len(set(texts)) < len(texts)
    figure = next(each for each in reading.figures if each.name == "distribution").to_dict()
    assert figure["data"][0]["x"] == figure["layout"]["xaxis"]["tickvals"] == list(range(len(texts)))


TIED = np.array([2.0, 2.0, 2.0, -1.0])


def test_ties_at_zero_are_checked_too(monkeypatch):
    settings = Settings(prompt="x", temperatures=[0.0, 1e-10, 1.0])
    names = dict(enumerate("abcd"))

    def gap(reading):
        return next(check.residual for check in reading.checks if check.name.startswith("S ="))

    assert gap(_distributions(settings, names, TIED)) < 1e-10
    assert gap(_distributions(settings, names, np.array([5.0, 0.0, -1.0, -2.0]))) < 1e-10
    right = boltzmann.curve
    monkeypatch.setattr(
        boltzmann, "curve", lambda *given: (found := right(*given))._replace(entropy=found.entropy + 0.1)
    )
    for z in (TIED, np.array([5.0, 0.0, -1.0, -2.0])):
        for temperature in (0.0, 1e-10):
            alone = Settings(prompt="x", temperatures=[temperature])
            assert gap(_distributions(alone, names, z)) > 0.04


def test_what_ties_give_at_zero_is_reached():
    for wanted in ({"entropy": math.log(3)}, {"perplexity": 3.0}, {"top_probability": 1 / 3}):
        reading = _solved(Settings(prompt="x", **wanted), TIED)
        (row,) = rows(reading, "solved")
        assert row["temperature"] == 0
        assert row["reached"] == pytest.approx(row["wanted"], rel=1e-12)
        assert reading.passed


@pytest.fixture(scope="module")
def questions():
    lines = [
        {"question": f"What is {a} plus {b}?", "answer": f"{a} plus {b} is {a + b}."}
        for a in range(1, 5)
        for b in range(1, 4)
    ]
    return File(name="sums.jsonl", data="\n".join(map(json.dumps, lines)).encode())


def test_t_star_is_what_a_plain_search_finds(take, lm, questions):
    reading = take(samples=0, calibrate=questions, calibrate_tokens=60)
    fitted, at_best, held, held_best = rows(reading, "calibration")
    best = at_best["temperature"]
    assert fitted["temperature"] == held["temperature"] == 1
    assert held_best["temperature"] == best
    assert fitted["tokens"] + held["tokens"] == 60

    losses = {scale: nll(lm, questions, 60, scale * best) for scale in (0.9, 0.99, 1, 1.01, 1.1)}
    assert losses[1] == pytest.approx(at_best["nll"], rel=1e-6)
    assert min(losses, key=losses.get) == 1
    assert reading.passed


def nll(lm, file, most, temperature):
    """Of every second document, through PyTorch's cross entropy."""
    total, count, left = 0.0, 0, most
    for number, line in enumerate(file.text.splitlines()):
        pair = json.loads(line)
        given = lm.tokenizer.prompt(pair["question"] + " ")
        tokens = lm.tokenizer.prompt(pair["question"] + " " + pair["answer"])
        first = next(at for at, token in enumerate(tokens) if at >= len(given) or token != given[at])
        tokens = tokens[: first + left]
        left -= len(tokens) - first
        if len(tokens) == first or number % 2:
            continue
        rows = lm.runner.call(lambda tokens=tokens: replay(lm.model, tokens, logits=True).logits)
        some = rows[first - 1 : -1].double() / temperature
        total += torch.nn.functional.cross_entropy(some, torch.tensor(tokens[first:]), reduction="sum").item()
        count += len(tokens) - first
    return total / count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": ""}, "prompt: got '', expected at least 1 character"),
        ({"temperatures": [-0.1]}, r"temperatures\[0\]: got -0.1, expected greater than or equal to 0"),
        ({"temperatures": [math.nan]}, r"temperatures\[0\]: got nan"),
        ({"temperatures": []}, "temperatures: got .*, expected at least 1 item"),
        ({"perplexity": 1e8}, "perplexity: got 1e.08, expected 1 to 49152"),
        (
            {"samples": 100, "temperatures": [1, 2], "max_tokens": 501},
            "samples: got 100 at 2 temperatures of up to 501 tokens each, 100200 in all, expected at most",
        ),
        ({"calibrate": "one document"}, "calibrate: got 1 documents in content .* expected at least two"),
        (
            {"calibrate": "a b\n\nc d", "calibrate_tokens": 99999},
            "calibrate_tokens: got 99999, expected at most",
        ),
    ],
)
def test_bad_input_is_named(take, settings, message):
    with pytest.raises(InvalidRequest, match=message):
        take(**({"samples": 0} | settings))


def test_a_top_that_is_more_than_the_vocabulary_is_all_of_it(take, lm):
    assert len(rows(take(top=1000, samples=0), "distribution")) == min(1000, lm.config.vocab)
    assert np.isclose(sum(row["p_0.2"] for row in rows(take(top=1000, samples=0), "distribution")), 1)
