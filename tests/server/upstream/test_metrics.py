"""What is counted of the answers that pass through."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.server.upstream.test_responses import piece
from tests.server.upstream.test_route import ABILITIES, CHAT, Toy
from thermoscope.server.upstream.app import create_app
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.upstream import Upstream

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
REASON = "vllm:request_success_total"


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def client(toy):
    connection = Connection("http://toy", async_transport=httpx.MockTransport(toy))
    with TestClient(create_app(Upstream(connection, ABILITIES))) as client:
        yield client


def counted(client):
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            assert sample.labels["model_name"] == "far"
            reason = sample.labels.get("finished_reason")
            if "le" not in sample.labels:
                found[sample.name if reason is None else (sample.name, reason)] = sample.value
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_counted_once(client, toy, stream):
    if stream:
        toy.streams(
            piece(role="assistant", content=""), piece(content="a"), piece(content="b"), piece("stop"),
            {"choices": [], "usage": USAGE}, "[DONE]",
        )  # fmt: skip
    else:
        toy.says({"message": {"content": "ab"}, "finish_reason": "stop"}, usage=USAGE)
    assert client.post("/v1/chat/completions", json=CHAT | {"stream": stream}).status_code == 200
    found = counted(client)
    assert (found["vllm:prompt_tokens_total"], found["vllm:generation_tokens_total"]) == (7, 3)
    assert found[REASON, "stop"] == found["vllm:e2e_request_latency_seconds_count"] == 1
    assert found["vllm:time_to_first_token_seconds_count"] == stream
    assert found["thermoscope:between_pieces_seconds_count"] == stream
    assert found["vllm:num_requests_running"] == 0


def test_a_response_is_counted_as_its_chat_is(client, toy):
    toy.says({"message": {"content": "ab"}, "finish_reason": "length"}, usage=USAGE)
    client.post("/v1/responses", json={"model": "far", "input": "hi"})
    assert counted(client)[REASON, "length"] == 1


@pytest.mark.parametrize(
    ("pieces", "reasons"),
    [
        ([piece(content="a")], {"error"}),
        ([piece(7), "[DONE]"], {"other"}),
        ([{"choices": [{"delta": 7, "finish_reason": "stop"}], "usage": 7}, "[DONE]"], {"stop"}),
    ],
)
def test_what_an_upstream_does_wrong_is_counted_and_ends_nothing(client, toy, pieces, reasons):
    toy.streams(*pieces)
    assert client.post("/v1/chat/completions", json=CHAT | {"stream": True}).status_code == 200
    found = counted(client)
    assert {name[1] for name in found if name[0] == REASON} == reasons
    assert found["vllm:e2e_request_latency_seconds_count"] == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_an_error(client, toy, stream):
    toy.answer = httpx.Response(503, json={})
    client.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    found = counted(client)
    assert found[REASON, "error"] == 1
    assert found["vllm:num_requests_running"] == 0
