"""What is counted of the answers that pass through."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.upstream.test_responses import piece
from tests.server.upstream.test_route import CHAT

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
REASON = "vllm:request_success_total"


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
        ([piece(content="a")], {"error": 1}),
        ([piece(7), "[DONE]"], {"other": 1}),
        ([piece("stop"), piece("stop"), piece("length"), "[DONE]"], {"stop": 1}),
        ([piece("stop")], {"stop": 1}),  # all was said, though not that it was all
        ([piece(content="a"), {"choices": [], "usage": {"prompt_tokens": 10**400}}, "[DONE]"], {}),
        ([{"choices": [{"delta": 7, "finish_reason": "stop"}], "usage": 7}, "[DONE]"], {"stop": 1}),
    ],
)
def test_what_an_upstream_does_wrong_is_counted_and_ends_nothing(client, toy, pieces, reasons):
    toy.streams(*pieces)
    assert client.post("/v1/chat/completions", json=CHAT | {"stream": True}).status_code == 200
    found = counted(client)
    assert {name[1]: count for name, count in found.items() if name[0] == REASON} == reasons
    assert found["vllm:e2e_request_latency_seconds_count"] == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "errors"), [(400, None), (503, 1)])
def test_what_is_refused_never_began_and_what_fails_is_an_error(client, toy, stream, status, errors):
    toy.answer = httpx.Response(status, json={})
    client.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    found = counted(client)
    assert found.get((REASON, "error")) == errors
    assert found["vllm:num_requests_running"] == 0


def test_a_response_that_cannot_be_told_is_an_error(client, toy):
    toy.streams(piece(content="a"), piece(tool_calls=[7]), "[DONE]")
    client.post("/v1/responses", json={"model": "far", "input": "hi", "stream": True})
    assert {name[1] for name in counted(client) if name[0] == REASON} == {"error"}


def test_several_answers_end_each_by_itself(client, toy):
    choices = [{"index": at, "message": {"content": "a"}, "finish_reason": "stop"} for at in range(3)]
    toy.says(*choices)
    client.post("/v1/chat/completions", json=CHAT | {"n": 3})
    toy.streams({"choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": "length"}]})
    client.post("/v1/chat/completions", json=CHAT | {"n": 3, "stream": True})
    found = counted(client)
    assert (found[REASON, "stop"], found[REASON, "length"], found[REASON, "error"]) == (3, 1, 2)
    assert found["vllm:e2e_request_latency_seconds_count"] == 2


def test_embeddings_have_no_answers(client, toy):
    toy.answer = httpx.Response(200, json={"data": [], "usage": {"prompt_tokens": 4}})
    body = {"model": "far", "input": "x", "stream": True}
    assert client.post("/v1/embeddings", json=body).json()["usage"] == {"prompt_tokens": 4}
    assert toy.asked == body
    found = counted(client)
    assert found["vllm:prompt_tokens_total"] == 4
    assert not any(name[0] == REASON for name in found)
    refused = client.post("/v1/embeddings", json=body | {"thermoscope": {"trace": True}})
    assert refused.json()["error"]["param"] == "thermoscope.trace"
