"""A vector that the server was started with steers whoever names it, and nobody else."""

import pytest
import torch
from starlette.testclient import TestClient

import thermoscope as ts
from thermoscope.engine.steering import Steering
from thermoscope.server.app import create_app
from thermoscope.server.options import Options

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def lm():
    with ts.load(context=256) as lm:
        yield lm


@pytest.fixture(scope="module")
def vectors(lm):
    push, task = (torch.randn(lm.config.hidden, generator=torch.Generator().manual_seed(n)) for n in (1, 2))
    about = (lm.name, lm.config.family, lm.config.layers)
    constant, card = Steering(*about, {20: 4 * push}), Steering(*about, {20: push}, {20: task}, 400.0)
    return {"constant": constant, "card": card}


@pytest.fixture(scope="module")
def say(lm, vectors):
    with TestClient(create_app(lm, Options(vectors=vectors))) as client:

        def say(**own):
            body = {"model": lm.name, "messages": MESSAGES, "temperature": 0, "max_tokens": 12}
            return client.post("/v1/chat/completions", json={**body, "thermoscope": {"steps": True, **own}})

        yield say


def tokens(answer):
    assert answer.status_code == 200, answer.text
    return [step["token"] for step in answer.json()["choices"][0]["thermoscope"]["steps"]]


@pytest.mark.parametrize("name", ["constant", "card"])
def test_a_named_vector_steers_as_in_python(lm, vectors, say, name):
    plain = tokens(say())
    steered = tokens(say(steer=name))
    expected = lm.chat(MESSAGES, temperature=0, max_tokens=12, steer=vectors[name]).trace.tokens
    assert steered == list(expected) != plain
    assert tokens(say()) == plain


def test_a_name_that_is_not_known_is_refused_and_never_opened(lm, say, tmp_path, vectors):
    path = tmp_path / "v.safetensors"
    vectors["constant"].save(path)
    for name in ("other", str(path)):
        answer = say(steer=name)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["message"].startswith(f"thermoscope.steer: got {name!r}, expected one of constant, card")
        assert error["param"] == "thermoscope.steer"
    with TestClient(create_app(lm)) as client:
        body = {"model": lm.name, "messages": MESSAGES, "thermoscope": {"steer": "constant"}}
        refused = client.post("/v1/chat/completions", json=body)
    assert "expected a server that was started with --steer NAME=FILE" in refused.json()["error"]["message"]
