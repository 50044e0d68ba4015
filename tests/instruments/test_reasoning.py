"""The card as a whole: of the model's own answer, of its saved trace, and of a worked solution."""

import json

import pytest
import torch

import thermoscope as ts
from tests.instruments.loops import rows
from thermoscope.cli import main
from thermoscope.engine import language_model
from thermoscope.errors import InvalidRequest
from thermoscope.models.intervention import Add

QUESTION = "Tom has 3 apples and buys 4 more. How many does he have? Think step by step."
SHORT = {"controls": 1, "max_tokens": 40}


def plain(reading):
    found = reading.to_dict()
    return {key: found[key] for key in ("findings", "tables", "checks", "notes")}


@pytest.fixture(scope="module")
def own(lm):
    return ts.read("reasoning", model=lm, prompt=QUESTION, **SHORT)


def test_the_model_s_own_reasoning(own, lm):
    assert own.passed
    assert "replay = record" in [check.name for check in own.checks]
    reply = lm.chat(QUESTION, temperature=0, max_tokens=40)
    texts = [row["text"] for row in rows(own.table("memory"))[1:]]
    assert "".join(texts).replace(" ", "") == "".join(reply.text.split())
    first = rows(own.table("memory"))[0]
    assert first["bytes"] == first["tokens"] * 2 * 30 * 3 * 64 * 2  # SmolLM2 in float16


def test_its_saved_trace_gives_the_same(own, lm, tmp_path):
    path = tmp_path / "trace.json"
    lm.chat(QUESTION, temperature=0, max_tokens=40).trace.save(path)
    read = ts.read("reasoning", model=lm, trace=path, controls=1)
    assert plain(read) == plain(own)


def test_a_steered_answer_s_trace_is_refused(lm, tmp_path):
    path = tmp_path / "trace.json"
    vector = Add(12, torch.ones(lm.model.config.hidden))
    lm.chat(QUESTION, steer=[vector], temperature=0, max_tokens=4).trace.save(path)
    with pytest.raises(InvalidRequest, match="trace: got one that was steered"):
        ts.read("reasoning", model=lm, trace=path)


def test_a_worked_solution_with_a_layer_and_a_head(lm, capsys, monkeypatch):
    monkeypatch.setattr(language_model, "load", lambda *_, **__: lm)
    monkeypatch.setattr(lm, "close", lambda: None)
    said = ["reasoning", "How many?", "--solution", "3 + 4 = 7.\n7 - 2 = 5.\n#### 5", "--controls", "1"]
    assert main([*said, "--layer", "29", "--head", "8", "--resample", "1", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert {
        "memory",
        "where",
        "suppression",
        "early",
        "forms",
        "states",
        "eviction",
        "head",
        "resampled",
    } <= (read["tables"].keys())
    assert any("chain rule" in note for note in read["notes"])
    assert any("stands in step 2" in note for note in read["notes"])


@pytest.mark.parametrize(
    ("settings", "param", "message"),
    [
        ({}, "prompt", "prompt: got none, expected a question, or a trace"),
        ({"solution": "It is 5."}, "prompt", "prompt: got none"),
        ({"prompt": "x", "trace": "{}"}, "trace", "trace: got a prompt beside it"),
        ({"prompt": "x", "head": 1}, "head", "head: got one without its layer"),
        ({"prompt": "x", "layer": 30}, "layer", "layer: got 30, expected 0 to 29"),
        ({"prompt": "x", "layer": 1, "head": 9}, "head", "head: got 9, expected 0 to 8"),
        ({"prompt": "x", "solution": "none"}, "answer", "answer: got none, and no number stands"),
        ({"prompt": "x " * 2000, "solution": "5"}, "prompt", "expected at most 1024, the context"),
        ({"trace": "{}"}, "trace", "trace: got "),
        ({"prompt": "x", "solution": "It is 5", "answer": "  "}, "answer", "answer: got only white space"),
        ({"prompt": "x", "keep": 1.0}, "keep", "keep: got 1.0, expected less than 1"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(lm, settings, param, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        ts.read("reasoning", model=lm, **settings)
    assert caught.value.param == param
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": []}, "trace: got an empty prompt"),
        ({"steps": []}, "trace: got an empty answer"),
        ({"prompt": ["a"]}, "trace: got token id 'a', expected 0 to 49151"),
        ({"prompt": [1.5]}, "trace: got token id 1.5"),
        ({"prompt": [49152]}, "trace: got token id 49152"),
        ({"model": "another"}, "trace: got one of model another"),
        ({"steered": "0123456789abcdef"}, r"trace: got one that was steered \(by 0123456789abcdef\)"),
    ],
)
def test_a_trace_that_this_model_did_not_speak_is_refused_in_one_line(lm, changed, message):
    trace = lm.chat(QUESTION, temperature=0, max_tokens=2).trace.to_dict()
    with pytest.raises(InvalidRequest, match=message) as caught:
        ts.read("reasoning", model=lm, trace=json.dumps(trace | changed))
    assert caught.value.param == "trace"
    assert "\n" not in str(caught.value)


def test_one_step_is_enough(lm):
    read = ts.read("reasoning", model=lm, prompt="2 + 3?", solution="2 + 3 is 5", controls=1)
    assert read.passed
    assert len(read.table("suppression").rows) == 1
    assert not read.table("receivers").rows


def test_a_family_that_is_not_ours_is_refused_by_name(lm, monkeypatch):
    from thermoscope.errors import UnsupportedModel
    from thermoscope.instruments import _looking

    monkeypatch.setattr(_looking, "Adapter", type(lm.model.decoder))
    with pytest.raises(UnsupportedModel, match="reasoning: got a llama, which runs through transformers"):
        ts.read("reasoning", model=lm, prompt="2 + 3?", solution="2 + 3 is 5", controls=1)
