"""Responses made of a scripted upstream's chats."""

import json

import httpx
import pytest
from starlette.testclient import TestClient

from tests.server.upstream.test_route import ABILITIES, LOGPROBS, Toy
from thermoscope.server.upstream.app import create_app
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.upstream import Upstream

BODY = {"model": "far", "input": "hi"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def client(toy):
    connection = Connection("http://toy", async_transport=httpx.MockTransport(toy))
    with TestClient(create_app(Upstream(connection, ABILITIES))) as client:
        yield client


def piece(finish_reason=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def call(index, arguments, **more):
    """A piece of a call, in the way of those servers that say its name each time."""
    function = {"name": f"f{index}", "arguments": arguments}
    return piece(tool_calls=[{"index": index, "id": f"c{index}", "type": "function", "function": function}])


def events(response):
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    told = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    return told


def test_what_is_asked_of_the_upstream(client, toy):
    toy.says({"message": {"content": "a"}, "finish_reason": "stop"})
    asked = BODY | {"instructions": "Be brief.", "max_output_tokens": 9, "tools": [TOOL], "temperature": 0.5}
    schema = {"properties": {"a": {"enum": [None, 1]}}}
    asked |= {"tool_choice": {"type": "function", "name": "f"}}
    asked |= {"text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}
    assert client.post("/v1/responses", json=asked).status_code == 200
    function = {key: value for key, value in TOOL.items() if key != "type"}
    assert toy.asked == {
        "model": "far",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
        ],
        "max_completion_tokens": 9,
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "temperature": 0.5,
    }


def test_calls_whose_names_come_again_and_again(client, toy):
    pieces = [piece(content="Well."), call(0, ""), call(0, '{"a":'), call(0, "1}"), call(1, "{}")]
    toy.streams(*pieces, piece("tool_calls"), {"choices": [], "usage": USAGE}, "[DONE]")
    told = events(client.post("/v1/responses", json=BODY | {"stream": True, "tools": [TOOL]}))
    assert toy.asked["stream_options"] == {"include_usage": True}
    response = told[-1]["response"]
    assert told[-1]["type"] == "response.completed"
    assert [item["type"] for item in response["output"]] == ["message", "function_call", "function_call"]
    assert [(item["name"], item["call_id"], item["arguments"]) for item in response["output"][1:]] == [
        ("f0", "c0", '{"a":1}'),
        ("f1", "c1", "{}"),
    ]
    assert response["usage"]["input_tokens"] == 3
    added = [event["item"]["type"] for event in told if event["type"] == "response.output_item.added"]
    assert added == ["message", "function_call", "function_call"]
    assert client.get(f"/v1/responses/{response['id']}").json() == response


def test_calls_at_once(client, toy):
    calls = [
        {"id": f"c{at}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for at in (0, 1)
    ]
    toy.says({"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}, usage=USAGE)
    response = client.post("/v1/responses", json=BODY | {"tools": [TOOL]}).json()
    assert [item["call_id"] for item in response["output"]] == ["c0", "c1"]
    assert response["usage"]["total_tokens"] == 5


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_how_it_ended(client, toy, reason, status, why):
    toy.says({"message": {"content": "a"}, "finish_reason": reason})
    response = client.post("/v1/responses", json=BODY).json()
    assert (response["status"], response["incomplete_details"], response["usage"]) == (status, why, None)


def test_steps_and_where_they_are_kept(client, toy):
    choice = {"index": 0, "delta": {"content": "a"}, "logprobs": LOGPROBS, "finish_reason": "stop"}
    toy.streams({"choices": [choice]}, "[DONE]")
    asked = BODY | {"stream": True, "thermoscope": {"steps": True, "trace": True}}
    told = events(client.post("/v1/responses", json=asked))
    tag = told[0]["response"]["thermoscope"]["trace"]
    (step,) = told[-1]["response"]["thermoscope"]["steps"]
    assert (step["text"], step["logprob"]) == ("a", -0.5)
    assert client.get(f"/v1/traces/{tag}").json()["choices"][0]["steps"] == [step]


@pytest.mark.parametrize(
    "pieces",
    [
        [piece(content="a")],  # and no end
        [call(1, ""), call(0, "")],
        [{"choices": [{"index": 0, "delta": 7, "finish_reason": None}]}, "[DONE]"],
        [piece(tool_calls=[{"index": 0}]), "[DONE]"],
        ["nonsense"],
    ],
)
def test_what_goes_wrong_on_the_way_is_an_event(client, toy, pieces):
    toy.streams(*pieces)
    told = events(client.post("/v1/responses", json=BODY | {"stream": True, "tools": [TOOL]}))
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    assert told[-2]["message"].startswith("upstream: ")
    response = told[-1]["response"]
    assert response["status"] == "failed"
    assert client.get(f"/v1/responses/{response['id']}").json()["error"] == response["error"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"truncation": "auto"}, "truncation"),
        ({"input": []}, "input"),
        ({"thermoscope": {"top_k": 3}}, "thermoscope.top_k"),
        ({"previous_response_id": "resp_x"}, "previous_response_id"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"background": True}, "background"),
    ],
)
def test_what_is_refused_here(client, toy, fields, param):
    refused = client.post("/v1/responses", json=BODY | fields)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    assert toy.asked is None


def test_an_upstreams_refusal_speaks_of_the_fields_here(client, toy):
    error = {"message": "max_tokens: too many", "type": "invalid_request_error", "param": "max_tokens"}
    toy.answer = httpx.Response(400, json={"error": error})
    told = client.post("/v1/responses", json=BODY).json()["error"]
    assert (told["message"], told["param"]) == ("upstream: max_output_tokens: too many", "max_output_tokens")
