"""What goes through to a scripted upstream, and what comes back to the client."""

import json
import logging
from dataclasses import replace

import httpx
import pytest
from starlette.testclient import TestClient

from tests.server.upstream.toy import ABILITIES
from thermoscope.server.upstream.app import create_app
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.upstream import Upstream

SHOWN = [{"token": "a", "logprob": -0.5, "bytes": [97]}, {"token": "b", "logprob": -1.5, "bytes": [98]}]
LOGPROBS = {"content": [SHOWN[0] | {"top_logprobs": SHOWN}]}
SURE = [shown | {"logprob": 9 - at} for at, shown in enumerate(SHOWN)]  # of more than all probability
CHAT = {"model": "far", "messages": [{"role": "user", "content": "hi"}]}


def events(response):
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_every_field_goes_on_as_it_came(client, toy):
    body = CHAT | {"tools": [{"type": "function"}], "response_format": {"type": "json_object"}, "odd": [1]}
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert toy.asked == body


def test_what_is_missing_in_openais_form_is_filled_in(client, toy):
    toy.says({"message": {"role": "assistant", "tool_calls": [{"id": "x"}]}, "finish_reason": "tool_calls"})
    answer = client.post("/v1/chat/completions", json=CHAT).json()
    assert answer["model"] == "far"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant", "content": None, "refusal": None, "tool_calls": [{"id": "x"}]
            },
            "finish_reason": "tool_calls",
            "logprobs": None,
        }
    ]  # fmt: skip


def test_steps_ask_for_logprobs_that_the_client_does_not_see(client, toy):
    toy.says({"message": {"content": "a"}, "logprobs": LOGPROBS})
    answer = client.post("/v1/chat/completions", json=CHAT | {"thermoscope": {"steps": True}}).json()
    assert toy.asked == CHAT | {"logprobs": True, "top_logprobs": 20}
    (choice,) = answer["choices"]
    assert choice["logprobs"] is None
    (step,) = choice["thermoscope"]["steps"]
    assert step["text"] == "a"
    assert step["logprob"] == -0.5
    assert len(step["entropy"]) == 2


def test_logprobs_are_those_that_were_asked_for(client, toy):
    toy.says({"message": {"content": "a"}, "logprobs": LOGPROBS})
    asked = CHAT | {"logprobs": True, "top_logprobs": 1, "thermoscope": {"steps": True}}
    (choice,) = client.post("/v1/chat/completions", json=asked).json()["choices"]
    assert choice["logprobs"] == {
        "content": [SHOWN[0] | {"top_logprobs": SHOWN[:1]}],
        "refusal": None,
    }


def test_a_completion_has_the_form_of_its_own_address(client, toy):
    """llama.cpp answers both addresses in the form of a chat."""
    toy.says({"text": "a", "logprobs": LOGPROBS})
    asked = {"model": "far", "prompt": "x", "logprobs": 2}
    (choice,) = client.post("/v1/completions", json=asked).json()["choices"]
    assert choice["logprobs"] == {
        "tokens": ["a"],
        "token_logprobs": [-0.5],
        "top_logprobs": [{"a": -0.5, "b": -1.5}],
        "text_offset": [0],
    }


def test_a_stream_goes_through_piece_by_piece(client, toy):
    pieces = [
        {"choices": [{"delta": {"role": "assistant", "content": None}}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": LOGPROBS}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": LOGPROBS}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"total_tokens": 2}},
    ]
    toy.streams(*pieces, "[DONE]")
    asked = CHAT | {"stream": True, "thermoscope": {"steps": True}}
    response = client.post("/v1/chat/completions", json=asked)
    assert response.headers["content-type"].startswith("text/event-stream")
    *said, end = events(response)
    assert end == "[DONE]"
    assert [each["model"] for each in said] == ["far"] * 5
    steps = [step for each in said for choice in each["choices"] for step in choice["thermoscope"]["steps"]]
    assert [step["text"] for step in steps] == ["a", "a"]
    assert steps[0]["ms"] is None
    assert steps[1]["ms"] >= 0
    assert said[3]["choices"][0]["finish_reason"] == "stop"
    assert said[4]["usage"] == {"total_tokens": 2}


@pytest.mark.parametrize("last", [{"error": {"message": "oh"}}, {"choices": []}])
def test_a_stream_that_fails_ends_with_an_error(client, toy, last):
    toy.streams({"choices": []}, last)
    *_, end = events(client.post("/v1/chat/completions", json=CHAT | {"stream": True}))
    assert end["error"]["message"].startswith("upstream: ")
    assert set(end["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.ConnectError("refused"), 502),
        (httpx.ReadTimeout("slow"), 504),
        (httpx.Response(422, json={"detail": "n"}), 400),
        (
            httpx.Response(
                429, json={"error": {"message": "later", "code": 429}}, headers={"retry-after": "9"}
            ),
            429,
        ),
        (httpx.Response(500, text="oh"), 502),
    ],
)
def test_failures_have_openais_form(client, toy, answer, status, stream):
    toy.answer = answer
    response = client.post("/v1/chat/completions", json=CHAT | {"stream": stream})
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] is None or isinstance(error["code"], str)
    if status == 429:
        assert response.headers["retry-after"] == "9"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"model": "near"}, "model"),
        ({"model": 3}, "model"),
        ({"thermoscope": 3}, "thermoscope"),
        ({"thermoscope": {"steer": "x"}}, "thermoscope.steer"),
        ({"thermoscope": {"top_k": 3}}, "thermoscope.top_k"),
        ({"thermoscope": {"steps": "yes"}}, "thermoscope.steps"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(client, toy, given, param):
    response = client.post("/v1/chat/completions", json=CHAT | given)
    assert response.status_code in (400, 404)
    assert response.json()["error"]["param"] == param
    assert toy.asked is None


def test_steps_of_a_server_that_shows_nothing_are_refused(toy):
    connection = Connection("http://toy", async_transport=httpx.MockTransport(toy))
    blind = Upstream(connection, replace(ABILITIES, top_logprobs=0, streamed_logprobs=False))
    client = TestClient(create_app(blind))
    for stream in (False, True):
        asked = CHAT | {"stream": stream, "thermoscope": {"steps": True}}
        response = client.post("/v1/chat/completions", json=asked)
        assert response.status_code == 400
        assert "needs log-probabilities" in response.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_trace_is_kept_with_its_bounds(client, toy, stream):
    if stream:
        toy.streams(
            {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": LOGPROBS}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            "[DONE]",
        )
    else:
        toy.says({"message": {"content": "a"}, "logprobs": LOGPROBS, "finish_reason": "stop"})
    asked = CHAT | {"stream": stream, "temperature": 0.5, "thermoscope": {"trace": True}}
    response = client.post("/v1/chat/completions", json=asked)
    first = events(response)[0] if stream else response.json()
    assert "thermoscope" not in first["choices"][0]
    kept = client.get(f"/v1/traces/{first['thermoscope']['trace']}").json()
    assert kept["status"] == "complete"
    (answer,) = kept["choices"]
    assert answer["text"] == "a"
    assert answer["finish_reason"] == "stop"
    assert answer["upstream"] == "http://toy/v1"
    assert answer["sampling"]["temperature"] == 0.5
    (step,) = answer["steps"]
    assert step["logprob"] == -0.5
    assert step["entropy"][0] < step["entropy"][1]
    assert [each["text"] for each in step["alternatives"]] == ["a", "b"]


def test_a_trace_that_breaks_off_is_cut(client, toy):
    toy.streams({"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": LOGPROBS}]})
    asked = CHAT | {"stream": True, "thermoscope": {"trace": True}}
    first, _ = events(client.post("/v1/chat/completions", json=asked))
    kept = client.get(f"/v1/traces/{first['thermoscope']['trace']}").json()
    assert kept["status"] == "cut"
    assert kept["choices"][0]["text"] == "a"


def test_models_and_health(client):
    assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["far"]
    assert client.get("/v1/models/near").status_code == 404
    health = client.get("/health").json()
    assert health["upstream"]["logprobs"] == "raw"
    assert health["upstream"]["url"] == "http://toy/v1"


def test_the_key_is_in_no_log(client, toy, caplog):
    caplog.set_level(logging.DEBUG)
    toy.answer = httpx.ConnectError("refused")
    client.post("/v1/chat/completions", json=CHAT)
    assert "sesame" not in caplog.text
    assert "sesame" not in client.get("/health").text


@pytest.mark.parametrize(
    "choices",
    [
        '5', '[5]', '[{"index": "0"}]', '[{"message": {"content": ["a"]}}]', '[{"message": "a"}]',
        '[{"text": "\\ud83d"}]', '[{"text": "a", "odd": 1e400}]',
        json.dumps([{"logprobs": {"content": [SHOWN[0] | {"logprob": 9, "top_logprobs": SURE}]}}]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_cannot_be_read_is_the_upstreams_mistake(client, toy, choices, stream):
    body = f'{{"choices": {choices}}}'
    toy.answer = httpx.Response(200, content=f"data: {body}\n\ndata: [DONE]\n\n" if stream else body)
    own = {"steps": True, "trace": True}
    response = client.post("/v1/chat/completions", json=CHAT | {"stream": stream, "thermoscope": own})
    if stream:
        error = events(response)[-1]["error"]
    else:
        assert response.status_code == 502, response.text
        error = response.json()["error"]
    assert error["message"].startswith("upstream: got ")
    assert error["type"] == "server_error"


def test_a_number_of_answers_without_end_costs_nothing_here(client, toy):
    toy.says({"index": 0, "message": {"content": "a"}, "logprobs": LOGPROBS, "finish_reason": "stop"})
    response = client.post("/v1/chat/completions", json=CHAT | {"n": 10**12, "thermoscope": {"trace": True}})
    assert response.status_code == 200
    assert client.get(f"/v1/traces/{response.json()['thermoscope']['trace']}").json()["answers"] == 128
