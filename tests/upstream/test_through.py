"""The same request to our server, and through another one of ours before it."""

import httpx
import pytest
from starlette.testclient import TestClient

from thermoscope.server.upstream.app import create_app

BODY = {
    "messages": [{"role": "user", "content": "abc"}], "max_tokens": 12, "temperature": 0.9, "seed": 3,
    "thermoscope": {"steps": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def client(upstream):
    with TestClient(create_app(upstream)) as client:
        yield client


def test_bounds_hold_what_the_engine_recorded(client, address, upstream):
    body = BODY | {"model": upstream.name}
    (near,) = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).json()["choices"]
    (far,) = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert far["message"] == near["message"]
    spoken = [step for step in near["thermoscope"]["steps"] if step["token"] > 1]  # controls are not shown
    assert len(spoken) == len(far["thermoscope"]["steps"])
    for known, seen in zip(spoken, far["thermoscope"]["steps"], strict=True):
        assert seen["bytes"] == known["bytes"]
        assert seen["logprob"] == pytest.approx(known["logprob"], abs=1e-6)
        low, high = seen["entropy"]
        assert low <= known["entropy"] + 1e-4
        assert known["entropy"] - 1e-4 <= high
        assert [each["bytes"] for each in seen["alternatives"]] == [
            list(other["text"].encode()) or None if other["token"] > 1 else each["bytes"]
            for each, other in zip(seen["alternatives"], known["alternatives"], strict=True)
        ]


@pytest.mark.parametrize("more", [{}, {"logprobs": True, "top_logprobs": 3}, {"n": 2}, {"stop": "e"}])
def test_what_the_client_gets_is_what_the_upstream_says(client, address, upstream, more):
    body = (
        {key: value for key, value in BODY.items() if key != "thermoscope"} | {"model": upstream.name} | more
    )
    near = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).json()
    far = client.post("/v1/chat/completions", json=body).json()
    for answer in (near, far):
        for name in ("id", "created"):
            del answer[name]
    assert far == near


def test_a_refusal_keeps_its_status_and_its_field(client, upstream):
    refused = client.post("/v1/chat/completions", json=BODY | {"model": upstream.name, "top_p": 2})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "top_p"
    assert refused.json()["error"]["message"].startswith("upstream: top_p: got 2")


def test_reasoning_needs_the_local_engine(client):
    refused = client.post("/v1/instruments/reasoning", json={"prompt": "a"})
    assert refused.status_code == 400
    assert "needs the local engine, because" in refused.json()["error"]["message"]


def test_a_reading_over_http(client):
    reading = client.post("/v1/instruments/nucleus", json={"prompt": "abc", "chat": True, "max_tokens": 4})
    assert reading.status_code == 200, reading.text
    assert reading.json()["passed"]
