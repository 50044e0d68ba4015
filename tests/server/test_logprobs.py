"""More alternatives than OpenAI shows, and the prompt's own log-probabilities, in a conversation."""

import json

import pytest
from starlette.testclient import TestClient

from tests import tiny
from thermoscope.engine.replay import replay
from thermoscope.server.app import create_app
from thermoscope.server.options import Options


@pytest.fixture
def ask(tiny_client):
    def post(**fields):
        body = {
            "model": "gpt-4o",
            "messages": [{"role": "user", "content": "hi"}],
            "seed": 1,
            "max_tokens": 4,
        }
        return tiny_client.post("/v1/chat/completions", json=body | fields)

    return post


def test_any_number_of_alternatives(ask, tiny_lm):
    choice = ask(logprobs=True, thermoscope={"top_logprobs": 1000, "ignore_eos": True}).json()["choices"][0]
    trace = tiny_lm.chat("hi", seed=1, max_tokens=4, ignore_eos=True).trace
    looked = replay(tiny_lm.model, (*trace.prompt, *trace.tokens), logits=True).logits[
        len(trace.prompt) - 1 :
    ]
    spoken = [at for at, token in enumerate(trace.tokens) if not tiny_lm.tokenizer.is_control(token)]
    for at, item in zip(spoken, choice["logprobs"]["content"], strict=True):
        law = looked[at].double().log_softmax(dim=0)
        assert len(item["top_logprobs"]) == tiny.VOCAB
        expected = sorted(law.tolist(), reverse=True)
        assert [other["logprob"] for other in item["top_logprobs"]] == pytest.approx(expected, abs=1e-4)


def test_steps_hold_as_many(ask):
    steps = ask(thermoscope={"top_logprobs": 60, "steps": True}).json()["choices"][0]["thermoscope"]["steps"]
    assert all(len(step["alternatives"]) == 60 for step in steps)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompts_logprobs_are_the_replays(ask, tiny_lm, stream):
    response = ask(thermoscope={"prompt_logprobs": 2}, stream=stream, n=2)
    if stream:
        pieces = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        (found,) = [piece["thermoscope"] for piece in pieces if "thermoscope" in piece]
        assert all(piece["choices"] for piece in pieces if "thermoscope" not in piece)
    else:
        found = response.json()["thermoscope"]
    items = found["prompt_logprobs"]
    ids = tiny_lm.tokenizer.chat([{"role": "user", "content": "hi"}])
    assert [item["token"] for item in items] == [tiny_lm.tokenizer.piece(token) for token in ids]
    assert (items[0]["logprob"], items[0]["top_logprobs"]) == (None, [])
    logprobs = replay(tiny_lm.model, ids).logprobs.tolist()
    assert [item["logprob"] for item in items[1:]] == pytest.approx(logprobs, abs=1e-4)
    assert all(len(item["top_logprobs"]) == 2 for item in items[1:])


def test_a_prompts_logprobs_are_sent_only_if_asked_for(ask):
    assert "thermoscope" not in ask().json()
    assert all(item["top_logprobs"] == [] for item in ask(
        thermoscope={"prompt_logprobs": 0}
    ).json()["thermoscope"]["prompt_logprobs"])  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"thermoscope": {"top_logprobs": 5}}, "thermoscope.top_logprobs"),
        ({"logprobs": True, "top_logprobs": 2, "thermoscope": {"top_logprobs": 5}}, "top_logprobs"),
        ({"logprobs": True, "n": 100, "thermoscope": {"top_logprobs": 10**5}}, "thermoscope.top_logprobs"),
        ({"thermoscope": {"prompt_logprobs": 10**6}}, "thermoscope.prompt_logprobs"),
        ({"thermoscope": {"prompt_logprobs": -1}}, "thermoscope.prompt_logprobs"),
    ],
)
def test_what_nothing_would_show_is_refused(ask, fields, param):
    response = ask(**fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_server_may_bound_answers_that_name_no_limit(tiny_lm):
    with TestClient(create_app(tiny_lm, Options(aliases=["gpt-4o"], max_tokens=5))) as client:

        def count(content, **more):
            messages = [{"role": "user", "content": content}]
            body = {"model": "gpt-4o", "messages": messages, "thermoscope": {"ignore_eos": True}} | more
            return client.post("/v1/chat/completions", json=body).json()["usage"]["completion_tokens"]

        assert count("hi") == 5
        assert count("hi", max_tokens=9) == 9
        assert count("hi", max_completion_tokens=2) == 2
        assert count("x" * 125) == 128 - 125
