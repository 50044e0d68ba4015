"""The wire shape of a plain answer, and what the engine was asked for."""

import math

import pytest

from thermoscope import __version__
from thermoscope.engine.request import Sampling
from thermoscope.server.chat.schema import ChatRequest

from .scripted import END, counts


def test_answer_has_openais_shape(ask):
    answer = ask().json()
    assert answer["id"].startswith("chatcmpl-")
    assert isinstance(answer["created"], int)
    assert answer["system_fingerprint"] == f"Scripted-1B-fp32-{__version__}"
    assert {key: answer[key] for key in ("object", "model", "choices")} == {
        "object": "chat.completion",
        "model": "gpt-4o",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }
    assert counts(answer["usage"]) == (3, 7, 10)
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_choices_are_in_order_and_counted_together(ask):
    answer = ask(n=3, max_tokens=2).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in answer["choices"]} == {"Pa"}
    assert {choice["finish_reason"] for choice in answer["choices"]} == {"length"}
    assert answer["usage"]["completion_tokens"] == 6


def test_logprobs_mirror_the_content(ask, model):
    model.runner.script = ["né"]
    items = ask(logprobs=True, top_logprobs=2).json()["choices"][0]["logprobs"]["content"]
    assert b"".join(bytes(item["bytes"]) for item in items).decode() == "né"
    assert items[0] == {
        "token": "n",
        "logprob": pytest.approx(-math.log(2)),
        "bytes": [110],
        "top_logprobs": [
            {"token": "n", "logprob": pytest.approx(-math.log(2)), "bytes": [110]},
            {"token": "o", "logprob": pytest.approx(-2 * math.log(2)), "bytes": [111]},
        ],
    }


def test_logprobs_without_alternatives(ask):
    items = ask(logprobs=True).json()["choices"][0]["logprobs"]["content"]
    assert [item["token"] for item in items] == list("Paris.")
    assert all(item["top_logprobs"] == [] for item in items)


def test_steps_are_every_token_even_the_last(ask):
    choice = ask(thermoscope={"steps": True}).json()["choices"][0]
    steps = choice["thermoscope"]["steps"]
    assert [step["token"] for step in steps] == [*b"Paris.", END]
    assert steps[0]["kept"] == 1
    assert len(steps[0]["alternatives"]) == 20
    assert "thermoscope" not in ask().json()["choices"][0]


def test_defaults_are_openais(ask, model):
    ask()
    request = model.runner.requests[-1]
    assert request.sampling == Sampling()
    assert not request.record  # nobody asks for steps


def test_nulls_are_defaults(ask, model):
    optional = set(ChatRequest.model_fields) - {"model", "messages"}
    assert ask(**dict.fromkeys(optional)).status_code == 200
    assert model.runner.requests[-1].sampling == Sampling()


def test_every_setting_reaches_the_engine(ask, model):
    response = ask(
        temperature=2.5,
        top_p=0,
        presence_penalty=-2,
        frequency_penalty=1.5,
        logit_bias={"7": -100, "8": 3.5},
        seed=-3,
        stop="END",
        max_completion_tokens=5,
        n=2,
        thermoscope={
            "top_k": 3,
            "min_p": 0.1,
            "typical_p": 0.9,
            "epsilon": 1e-4,
            "eta": 1e-3,
            "top_n_sigma": 2.5,
            "xtc_probability": 0.5,
            "xtc_threshold": 0.2,
            "mirostat_tau": "inf",
            "mirostat_eta": 0.2,
            "dynatemp_range": 0.5,
            "dynatemp_exponent": 2,
            "dry_multiplier": 0.8,
            "dry_base": 1.5,
            "dry_allowed_length": 3,
            "dry_breakers": [5, 6],
            "profile": "openai",
            "repetition_penalty": 1.2,
            "stop_ids": [1, 2],
            "ignore_eos": True,
            "steps": False,
        },
    )
    assert response.status_code == 200
    request = model.runner.requests[-1]
    assert request.sampling == Sampling(
        temperature=2.5,
        top_p=0,
        presence_penalty=-2,
        frequency_penalty=1.5,
        logit_bias={7: -100, 8: 3.5},
        seed=-3,
        stop=("END",),
        max_tokens=5,
        n=2,
        top_k=3,
        min_p=0.1,
        typical_p=0.9,
        epsilon=1e-4,
        eta=1e-3,
        top_n_sigma=2.5,
        xtc_probability=0.5,
        xtc_threshold=0.2,
        mirostat_tau=math.inf,
        mirostat_eta=0.2,
        dynatemp_range=0.5,
        dynatemp_exponent=2,
        dry_multiplier=0.8,
        dry_base=1.5,
        dry_allowed_length=3,
        dry_breakers=(5, 6),
        profile="openai",
        repetition_penalty=1.2,
        stop_ids=(1, 2),
        ignore_eos=True,
    )
    assert not request.record


def test_logprobs_need_records_whatever_steps_says(ask, model):
    assert ask(logprobs=True, thermoscope={"steps": False}).status_code == 200
    assert model.runner.requests[-1].record


@pytest.mark.parametrize(("given", "temperature"), [("inf", math.inf), (0, 0), (2.0, 2), (1e9, 1e9)])
def test_temperature_has_no_upper_end(ask, model, given, temperature):
    assert ask(temperature=given).status_code == 200
    assert model.runner.requests[-1].sampling.temperature == temperature


@pytest.mark.parametrize("stop", ["END", ["END"], ["a", "b", "c", "d"], []])
def test_stop_is_a_string_or_a_list(ask, model, stop):
    assert ask(stop=stop).status_code == 200
    assert model.runner.requests[-1].sampling.stop == ((stop,) if isinstance(stop, str) else tuple(stop))


def test_parts_and_developer_reach_the_template_as_text(ask, model):
    echoed = {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": None, "annotations": []}
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [
        {"role": "developer", "content": "be brief"},
        echoed,
        {"role": "user", "content": parts, "name": "Ada"},
    ]
    assert ask(messages=messages).status_code == 200
    assert model.tokenizer.seen[-1][0] == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "one\ntwo"},
    ]
