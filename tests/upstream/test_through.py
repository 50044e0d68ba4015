"""The same request to our server, and through another one of ours before it."""

import json

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


CITY = {
    "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
CALLED = [
    {"role": "user", "content": "abc"},
    {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city": "Rome"}'},
    {"type": "function_call_output", "call_id": "c", "output": "sunny"},
]


def without_names(value):
    """The same without ids, times and what a cache held, which no two answers share."""
    if isinstance(value, list):
        return [without_names(each) for each in value]
    if not isinstance(value, dict):
        return value
    names = ("id", "item_id", "call_id", "created_at", "completed_at", "sequence_number", "cached_tokens")
    return {key: without_names(each) for key, each in value.items() if key not in names}


def told(response):
    """A stream's events, text in one piece, for an upstream's pieces may be other ones than a step's."""
    whole = []
    for line in response.text.splitlines():
        if not line.startswith("data: "):
            continue
        event = without_names(json.loads(line.removeprefix("data: ")))
        if whole and whole[-1]["type"] == event["type"] and "delta" in event:
            whole[-1]["delta"] += event["delta"]
        else:
            whole.append(event)
        whole[-1].pop("logprobs", None)
    return whole


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"max_output_tokens": 3},
        {"instructions": "Be brief.", "temperature": 0.0, "stop": ["e"]},
        {"input": CALLED},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": CITY}}},
    ],
)
def test_a_response_is_the_one_that_the_upstream_gives_itself(client, address, upstream, more, stream):
    body = {"model": upstream.name, "input": "abc", "max_output_tokens": 12, "temperature": 0.9, "seed": 3}
    body |= more | {"stream": stream}
    near = httpx.post(f"{address}/v1/responses", json=body, timeout=60)
    far = client.post("/v1/responses", json=body)
    assert far.status_code == near.status_code == 200, far.text
    if stream:
        assert told(far) == told(near)
    else:
        assert without_names(far.json()) == without_names(near.json())


def test_logprobs_of_a_response_are_the_upstreams(client, address, upstream):
    body = {"model": upstream.name, "input": "abc", "max_output_tokens": 12, "seed": 3, "top_logprobs": 2}
    body["include"] = ["message.output_text.logprobs"]
    near = httpx.post(f"{address}/v1/responses", json=body, timeout=60).json()
    far = client.post("/v1/responses", json=body).json()
    assert far["output"][0]["content"][0]["logprobs"]
    assert without_names(far["output"]) == without_names(near["output"])


def test_a_response_is_kept_and_continued(client, upstream):
    body = {"model": upstream.name, "max_output_tokens": 6, "seed": 3}
    first = client.post("/v1/responses", json=body | {"input": "abc", "thermoscope": {"trace": True}}).json()
    assert client.get(f"/v1/responses/{first['id']}").json() == first
    kept = client.get(f"/v1/traces/{first['thermoscope']['trace']}").json()
    assert kept["choices"][0]["text"] == first["output"][0]["content"][0]["text"]
    again = client.post("/v1/responses", json=body | {"input": "d", "previous_response_id": first["id"]})
    items = client.get(f"/v1/responses/{again.json()['id']}/input_items?order=asc").json()["data"]
    assert [item["content"][0]["text"] for item in items] == ["abc", kept["choices"][0]["text"], "d"]
    client.delete(f"/v1/responses/{first['id']}")
    assert client.get(f"/v1/responses/{first['id']}").status_code == 404


def test_embeddings_are_the_upstreams(client, address, upstream):
    body = {"model": upstream.name, "input": ["abc", "d"], "encoding_format": "float"}
    near = httpx.post(f"{address}/v1/embeddings", json=body, timeout=60).json()
    assert client.post("/v1/embeddings", json=body).json() == near
    refused = client.post("/v1/embeddings", json=body | {"thermoscope": {"steps": True}})
    assert refused.json()["error"]["param"] == "thermoscope.steps"


def test_what_a_response_asks_in_vain_is_told_in_its_own_words(client, upstream):
    refused = client.post("/v1/responses", json={"model": upstream.name, "input": "x" * 300})
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "input")
    assert error["message"].endswith("shorten the prompt or lower max_output_tokens.")
