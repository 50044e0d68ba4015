"""Responses made of a scripted upstream's chats."""

import json

import httpx
import pytest

from tests.server.upstream.test_route import LOGPROBS

BODY = {"model": "far", "input": "hi"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def piece(finish_reason=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def call(index, arguments):
    """A piece of a call, in the way of those servers that say its name each time."""
    return part(arguments, name=f"f{index}", index=index, id=f"c{index}")


def part(arguments, *, name=None, **told):
    return piece(tool_calls=[told | {"function": {"name": name, "arguments": arguments}}])


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


@pytest.mark.parametrize(
    "pieces",
    [
        # by index, named once; as OpenAI has it
        [part("", name="f", index=0, id="a"), part("{}", index=0), part("[]", name="f", index=1, id="b")],
        # the same index for all, as Ollama's, or none
        [part("{}", name="f", index=0, id="a"), part("[]", name="f", index=0, id="b")],
        [part("{}", name="f", id="a"), part("[]", name="f", id="b")],
        # no ids
        [part("{", name="f", index=0), part("}", index=0), part("[]", name="f", index=1)],
        [part("{}", name="f"), part("[", name="f"), part("]")],
        # an id of its own for every piece, as vLLM's once
        [
            *(part("{", name="f", index=0, id="a"), part("}", index=0, id="x")),
            part("[]", name="f", index=1, id="b"),
        ],
        # indexes that fall, or are null
        [part("{}", name="f", index=1, id="a"), part("[]", name="f", index=0, id="b")],
        [part("{}", name="f", index=None, id="a"), part("[]", name="f", index=None, id="b")],
        # white space between
        [part("{", name="f", index=0, id="a"), piece(content="\n"), part("}", index=0), call(1, "[]")],
    ],
)  # fmt: skip
def test_two_calls_however_a_server_tells_them_apart(client, toy, pieces):
    toy.streams(*pieces, piece("tool_calls"), "[DONE]")
    told = events(client.post("/v1/responses", json=BODY | {"stream": True, "tools": [TOOL]}))
    assert told[-1]["type"] == "response.completed"
    output = told[-1]["response"]["output"]
    assert [(item["type"], item["arguments"]) for item in output] == [
        ("function_call", each) for each in ("{}", "[]")
    ]
    assert len({item["call_id"] for item in output}) == 2


@pytest.mark.parametrize("index", [None, 0, -1])
def test_calls_at_once_are_as_many_as_there_are(client, toy, index):
    calls = [{"index": index, "id": each, "function": {"name": "f", "arguments": "{}"}} for each in "ab"]
    toy.says({"message": {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"})
    response = client.post("/v1/responses", json=BODY | {"tools": [TOOL]}).json()
    assert [item["call_id"] for item in response["output"]] == ["a", "b"]


def test_a_call_of_before_tools(client, toy):
    function = {"name": "f", "arguments": "{}"}
    toy.says({"message": {"content": None, "function_call": function}, "finish_reason": "function_call"})
    (item,) = client.post("/v1/responses", json=BODY).json()["output"]
    assert (item["type"], item["name"], item["arguments"]) == ("function_call", "f", "{}")


def test_a_refusal_is_said(client, toy):
    toy.says({"message": {"content": "No. ", "refusal": "I will not."}, "finish_reason": "stop"})
    (item,) = client.post("/v1/responses", json=BODY).json()["output"]
    assert item["content"][0]["text"] == "No. I will not."


def test_a_response_is_the_first_answer_alone(client, toy):
    toy.says(*({"index": at, "message": {"content": text}} for at, text in enumerate("ab")))
    (item,) = client.post("/v1/responses", json=BODY).json()["output"]
    assert item["content"][0]["text"] == "a"


@pytest.mark.parametrize(
    "answer",
    [
        {"hello": 1},
        {"choices": []},
        {"choices": [{"index": [0], "message": {"content": "a"}}]},
        {"choices": [{"message": {"content": "a"}}], "usage": 7},
        {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": "7"}},
        {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": 10**400}},
        {"choices": [{"message": {"content": "a"}}], "usage": {"completion_tokens": -1}},
        {"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens_details": 3}},
        {"choices": [{"message": {"tool_calls": [{"id": ["x"], "function": {"name": "f"}}]}}]},
        {"choices": [{"message": {"tool_calls": [{"id": "x", "function": {"name": 7}}]}}]},
    ],
)
def test_what_is_no_answer(client, toy, answer):
    toy.answer = httpx.Response(200, json=answer)
    told = client.post("/v1/responses", json=BODY)
    assert told.status_code == 502, told.text
    stream = {"choices": [each | {"delta": each["message"]} for each in answer.get("choices", ())]}
    toy.streams(answer | stream, "[DONE]")
    told = events(client.post("/v1/responses", json=BODY | {"stream": True}))
    assert [event["type"] for event in told[-2:]] == ["error", "response.failed"]
    assert 'vllm:num_requests_running{model_name="far"} 0.0' in client.get("/metrics").text


def test_an_odd_reason_is_an_end(client, toy):
    toy.says({"message": {"content": "a"}, "finish_reason": ["x"]})
    assert client.post("/v1/responses", json=BODY).json()["status"] == "completed"


def test_a_call_that_no_message_may_hold_is_refused_where_it_is_continued(client, toy):
    call = {"id": "c", "function": {"name": "a b!", "arguments": "{}"}}
    toy.says({"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"})
    first = client.post("/v1/responses", json=BODY | {"tools": [TOOL]}).json()
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    again = BODY | {"previous_response_id": first["id"], "input": [output]}
    refused = client.post("/v1/responses", json=again)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")


def test_an_error_within_a_stream_speaks_of_the_fields_here(client, toy):
    error = {"message": "max_tokens: too many", "type": "invalid_request_error", "param": "max_tokens"}
    toy.streams(piece(content="a"), {"error": error}, "[DONE]")
    told = events(client.post("/v1/responses", json=BODY | {"stream": True}))
    assert told[-2]["message"].endswith("max_output_tokens: too many")


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
        [call(1, ""), part("{}", index=0)],  # more of a call that is over
        [part("{}", index=0)],
        [call(0, ""), piece(content="And."), part("{}", index=0)],
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
        ({"temperature": "inf"}, "temperature"),
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
