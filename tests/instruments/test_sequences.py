"""Whole texts as states, against sums over SmolLM2's own logits."""

import math

import pytest
import torch

from thermoscope import instruments

PROMPT = "The boy went to the"
TEXTS = (" bathroom", " local market", " store and bought a")


@pytest.fixture
def take(lm):
    return lambda **settings: instruments.read(
        "boltzmann", model=lm, **({"prompt": PROMPT, "continuations": TEXTS} | settings)
    )


@pytest.fixture(scope="module")
def paths(lm):
    """[tokens, vocab] of logits before each token of each text, and the tokens."""
    from thermoscope.engine.replay import replay

    given = lm.tokenizer.encode(PROMPT)
    found = []
    for text in TEXTS:
        tokens = lm.tokenizer.encode(text)
        whole = lm.runner.call(lambda tokens=tokens: replay(lm.model, [*given, *tokens], logits=True).logits)
        found.append((whole[len(given) - 1 : -1].double(), torch.tensor(tokens)))
    return found


def rows(reading, name):
    return reading.to_dict()["tables"][name]["rows"]


def total(path, temperature):
    z, tokens = path
    return torch.log_softmax(z / temperature, dim=-1).gather(1, tokens[:, None]).sum().item()


def test_the_energy_of_a_text_is_the_sum_over_its_tokens(take, paths):
    for row, path in zip(rows(take(gauge=3.0), "sequences"), paths, strict=True):
        z, tokens = path
        assert row["tokens"] == len(tokens)
        assert row["energy"] == pytest.approx(-total(path, 1), abs=1e-9)
        assert row["logprob_per_token"] == pytest.approx(total(path, 1) / len(tokens), abs=1e-9)
        assert row["raw_energy"] == pytest.approx(-z.gather(1, tokens[:, None]).sum().item(), rel=1e-12)
        assert row["raw_energy_moved"] == pytest.approx(row["raw_energy"] - 3 * len(tokens), rel=1e-12)


def test_a_constant_can_reorder_raw_energies_and_no_probability(take):
    order = {}
    for gauge in (-100.0, 100.0):
        found = rows(take(gauge=gauge), "sequences")
        order[gauge] = [
            sorted(range(3), key=lambda at, key=key: found[at][key]) for key in ("raw_energy_moved", "energy")
        ]
    assert order[100.0][0] != order[-100.0][0]
    assert order[100.0][1] == order[-100.0][1]


@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_both_ways_to_temper(take, paths, temperature):
    found = [
        row for row in rows(take(temperature=temperature), "tempered") if row["temperature"] == temperature
    ]
    whole = torch.softmax(torch.tensor([total(path, 1) / temperature for path in paths]), dim=-1)
    logprobs = [total(path, temperature) for path in paths]
    by_token = torch.softmax(torch.tensor(logprobs), dim=-1)
    assert [row["boltzmann"] for row in found] == pytest.approx(whole.tolist(), rel=1e-5)
    assert [row["by_token_logprob"] for row in found] == pytest.approx(logprobs, rel=1e-9)
    assert [row["by_token"] for row in found] == pytest.approx(by_token.tolist(), rel=1e-5)
    for row, path in zip(found, paths, strict=True):
        apart = total(path, 1) / temperature - row["by_token_logprob"]
        assert row["log_z"] == pytest.approx(apart, rel=1e-9)


def test_at_one_both_are_the_same_and_at_others_not(take):
    reading = take()
    apart = dict.fromkeys((0.5, 1, 2), 0.0)
    for row in rows(reading, "tempered"):
        apart[row["temperature"]] += abs(row["by_token"] - row["boltzmann"]) / 2
    assert apart[1] == pytest.approx(0, abs=1e-12)
    assert min(apart[0.5], apart[2]) > 1e-3
    assert f"At T = {max(apart, key=apart.get):g} tempering whole texts" in reading.findings[-1]


def test_the_ends_of_the_range(take, lm):
    cold = take(temperature=0, continuations=[" bank", " moon"])  # the best token is another one
    assert [row["by_token"] for row in rows(cold, "tempered")[:2]] == [None, None]
    assert sorted(row["boltzmann"] for row in rows(cold, "tempered")[:2]) == [0, 1]
    assert "no text of the set is ever said" in cold.findings[-1]
    hot = take(temperature=math.inf)
    for row, states in zip(rows(hot, "tempered")[-3:], rows(hot, "sequences"), strict=True):
        assert row["boltzmann"] == pytest.approx(1 / 3)
        assert row["by_token_logprob"] == pytest.approx(-states["tokens"] * math.log(lm.config.vocab))
    assert cold.passed
    assert hot.passed


def test_texts_that_begin_one_another_overlap_and_it_says_so(take):
    def overlaps(*texts):
        notes = take(continuations=texts).notes
        return [note for note in notes if note.startswith("These states overlap: ")]

    assert overlaps(*TEXTS) == []
    (one,) = overlaps(" store and bought", " market", " store")
    assert "' store' begins ' store and bought', so" in one
    (three,) = overlaps(" store", " store and", " store and bought")
    assert "' store' begins ' store and', and 2 more such, so" in three


def test_a_text_that_begins_another_in_other_tokens_is_a_path_of_its_own(take, lm):
    tokens = [lm.tokenizer.encode(text) for text in (" mark", " market")]
    assert len(tokens[1]) == 1
    assert not any("overlap" in note for note in take(continuations=[" mark", " market"]).notes)


def test_one_text_is_tempered_the_same_either_way(take):
    reading = take(continuations=[" market."])
    assert "the same at every temperature" in reading.findings[-1]
    assert reading.passed
