"""On the default model; numbers against PyTorch's softmax and sort."""

import math

import pytest
import torch

from tests.instruments.loops import rows
from thermoscope import instruments
from thermoscope.engine.replay import replay
from thermoscope.errors import InvalidRequest

PROMPT = "The capital of France is"
SHORT = {"prompt": PROMPT, "max_tokens": 4}


@pytest.fixture(scope="module")
def read(lm):
    return lambda **settings: instruments.read("nucleus", model=lm, **settings)


@pytest.fixture(scope="module")
def logits(lm):
    tokens = lm.tokenizer.prompt(PROMPT)
    return lm.runner.call(lambda: replay(lm.model, tokens, logits=True)).logits[-1].double()


def ranked(logits, temperature):
    return torch.sort((logits / temperature).softmax(-1), descending=True, stable=True)


@pytest.mark.parametrize(("top_p", "temperature"), [(0.9, 1.0), (0.99, 1.0), (0.5, 3.0)])
def test_the_next_token_s_nucleus_is_the_head_of_a_sort(read, lm, logits, top_p, temperature):
    p, ids = ranked(logits, temperature)
    total = p.cumsum(0)
    size = int((total < top_p).sum()) + 1
    reading = read(**SHORT, top_p=top_p, temperature=temperature)

    (found,) = rows(reading.table("next"))
    assert found["size"] == size
    assert found["removed_tokens"] == len(p) - size
    assert found["mass"] == pytest.approx(float(total[size - 1]), abs=1e-10)
    assert found["mass_before"] == pytest.approx(float(total[size - 1] - p[size - 1]), abs=1e-10)
    assert found["removed_mass"] == pytest.approx(float(p[size:].sum()), abs=1e-10)
    assert found["crossing"] == lm.tokenizer.piece(int(ids[size - 1]))
    assert found["entropy"] == pytest.approx(float(torch.special.entr(p).sum()), abs=1e-9)
    left = p[:size] / p[:size].sum()
    assert found["entropy_kept"] == pytest.approx(float(torch.special.entr(left).sum()), abs=1e-9)

    shown = rows(reading.table("tokens"))
    head = min(10, size)
    expected = sorted({*range(head), size - 1, *range(size, size + 3)})
    assert [row["rank"] - 1 for row in shown] == expected
    for row, at in zip(shown, expected, strict=True):
        assert row["id"] == int(ids[at])
        assert row["probability"] == pytest.approx(float(p[at]), abs=1e-12)
        assert row["cumulative"] == pytest.approx(float(total[at]), abs=1e-10)
        assert row["kept"] == (at < size)
        assert row["drawn"] == pytest.approx(float(left[at]) if at < size else 0, abs=1e-10)
    assert reading.passed


def test_the_sizes_along_the_text_are_what_the_engine_recorded(kernel, lm, read):
    settings = {"top_p": 0.8, "temperature": 1.2, "seed": 5, "max_tokens": 24}
    trace = lm.generate(PROMPT, **settings).trace
    places = rows(read(prompt=PROMPT, **settings).table("positions"))
    assert [place["size"] for place in places] == [step.record.kept for step in trace.steps]
    assert [1 - place["mass"] for place in places] == pytest.approx(
        [step.record.removed_mass for step in trace.steps], abs=1e-10
    )
    assert all(place["inside"] for place in places)
    assert [place["token"] for place in places] == [lm.tokenizer.piece(token) for token in trace.tokens]


def test_a_given_text_is_followed(read, tmp_path):
    text = " Paris, and zebra umbrellas."
    reading = read(prompt=PROMPT, text=text)
    places = rows(reading.table("positions"))
    assert "".join(place["token"] for place in places) == text
    assert places[0]["inside"]
    assert not all(place["inside"] for place in places)
    assert any("outside V(p)" in finding for finding in reading.findings)
    assert reading.passed

    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    again = read(prompt=PROMPT, file=path)
    assert again.table("positions") == reading.table("positions")
    assert again.settings["file"]["name"] == "text.txt"


def test_a_chat_s_answer_is_followed(read):
    reading = read(prompt="What is the capital of France?", chat=True, text="Paris.")
    places = rows(reading.table("positions"))
    assert [place["token"] for place in places] == ["Paris", "."]


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"top_p": 0}, 1),
        ({"top_p": 1}, 49152),
        ({"temperature": 0}, 1),
        ({"temperature": math.inf, "top_p": 0.9}, math.ceil(0.9 * 49152)),
        ({"temperature": "inf", "top_p": 0.0}, 1),
        ({"temperature": 1e-300, "top_p": 0.999}, 1),
    ],
)
def test_the_ends_are_values(read, settings, size):
    reading = read(**SHORT, **settings)
    assert rows(reading.table("next"))[0]["size"] == size
    assert {place["size"] for place in rows(reading.table("positions"))} == {size}
    assert reading.passed


def test_at_zero_with_all_kept_it_says_why_law_and_sampler_differ(read):
    reading = read(**SHORT, temperature=0, top_p=1)
    assert rows(reading.table("next"))[0]["size"] == 49152
    assert {row["kept"] for row in rows(reading.table("engines"))} == {1}
    assert reading.passed
    said = "The law's V(1) holds every token"
    assert sum(said in note for note in reading.notes) == 1
    for settings in ({"temperature": 0, "top_p": 0.9}, {"temperature": 1, "top_p": 1}):
        assert not any(said in note for note in read(**SHORT, **settings).notes)


def test_a_text_that_shares_a_token_with_the_prompt_is_noted(read):
    reading = read(prompt="The capital of Fr", text="ance is Paris")
    assert rows(reading.table("positions"))[0]["token"] == " France"
    assert any("before the prompt's last ' Fr'" in note for note in reading.notes)


@pytest.mark.parametrize("top_k", [0, 10**9])
def test_top_k_of_none_and_of_all_change_nothing(read, top_k):
    kept = {row["engine"]: row["kept"] for row in rows(read(**SHORT, top_k=top_k).table("engines"))}
    assert len(set(kept.values())) == 1


def test_other_filters_are_for_the_engines_only(read):
    reading = read(**SHORT, temperature=2.0, top_p=0.8, top_k=40, min_p=0.02)
    assert reading.table("next") == read(**SHORT, temperature=2.0, top_p=0.8).table("next")
    kept = {row["engine"]: row["kept"] for row in rows(reading.table("engines"))}
    assert all(count <= 40 for count in kept.values())
    assert len(set(kept.values())) > 1


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({}, "prompt"),
        ({"prompt": PROMPT, "top_p": 1.5}, "top_p"),
        ({"prompt": PROMPT, "top_p": -0.1}, "top_p"),
        ({"prompt": PROMPT, "top_p": math.nan}, "top_p"),
        ({"prompt": PROMPT, "temperature": -1}, "temperature"),
        ({"prompt": PROMPT, "temperature": math.nan}, "temperature"),
        ({"prompt": PROMPT, "top_k": -1}, "top_k"),
        ({"prompt": PROMPT, "min_p": 2}, "min_p"),
        ({"prompt": PROMPT, "max_tokens": 0}, "max_tokens"),
        ({"prompt": PROMPT, "text": ""}, "text"),
        ({"prompt": PROMPT, "file": ""}, "file"),
        ({"prompt": PROMPT, "text": " a", "file": " b"}, "file"),
        ({"prompt": PROMPT, "text": " word" * 2000}, "text"),
        ({"prompt": PROMPT, "file": " word" * 2000}, "file"),
    ],
)
def test_bad_input_names_its_field(read, settings, param):
    with pytest.raises(InvalidRequest, match=f"^{param}: ") as caught:
        read(**settings)
    assert caught.value.param == param
    assert "\n" not in str(caught.value)
