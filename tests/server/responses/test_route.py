"""A response at once: its wire shape, what the engine was asked for, and what is refused."""

import math

import pytest
from openai.types.responses import response_create_params

from thermoscope.engine.request import Sampling
from thermoscope.errors import ContextExceeded, EngineStopped
from thermoscope.server.responses.schema import ResponsesRequest


def test_answer_has_openais_shape(respond):
    answer = respond(metadata={"a": "b"}, instructions="be brief", user="me").json()
    assert answer["id"].startswith("resp_")
    assert answer["output"][0]["id"].startswith("msg_")
    assert answer["completed_at"] >= answer["created_at"]
    changing = ("id", "created_at", "completed_at", "output")
    assert {name: value for name, value in answer.items() if name not in changing} == {
        "object": "response",
        "status": "completed",
        "background": False,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": "be brief",
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {"a": "b"},
        "model": "gpt-4o",
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 11,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 18,
        },
        "user": "me",
    }
    assert [item | {"id": ""} for item in answer["output"]] == [
        {
            "id": "",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Paris.", "annotations": [], "logprobs": []}],
        }
    ]


def test_an_answer_cut_by_its_limit_is_incomplete(respond):
    answer = respond(max_output_tokens=2).json()
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert answer["completed_at"] is None
    assert answer["output"][0]["status"] == "incomplete"
    assert answer["output"][0]["content"][0]["text"] == "Pa"
    assert answer["usage"]["output_tokens"] == 2


def test_an_answer_of_no_words_is_an_answer(respond, model):
    model.runner.script = []
    assert respond().json()["output"][0]["content"][0]["text"] == ""


def test_logprobs_mirror_the_text(respond, model):
    model.runner.script = ["né"]
    answer = respond(include=["message.output_text.logprobs"], top_logprobs=2).json()
    items = answer["output"][0]["content"][0]["logprobs"]
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
    assert answer["top_logprobs"] == 2


def test_steps_are_every_token_even_the_last(respond):
    steps = respond(thermoscope={"steps": True}).json()["thermoscope"]["steps"]
    assert [step["text"] for step in steps] == [*"Paris.", ""]
    assert "thermoscope" not in respond().json()


def test_a_trace_is_kept_under_an_id(client, respond):
    answer = respond(thermoscope={"trace": True, "steps": True}).json()
    steps = answer["thermoscope"]["steps"]
    kept = client.get(f"/v1/traces/{answer['thermoscope']['trace']}").json()
    assert steps[0]["text"] == "P"
    assert str(steps[0]["log_z"]) in str(kept)


def test_every_setting_reaches_the_engine(respond, model):
    given = {"temperature": "inf", "top_p": 0, "presence_penalty": -2, "frequency_penalty": 1.5, "seed": -3}
    answer = respond(
        **given,
        logit_bias={"7": -100},
        stop="END",
        max_output_tokens=5,
        thermoscope={"top_k": 3, "min_p": 0.1, "steps": False},
    )
    assert answer.status_code == 200
    assert answer.json()["temperature"] == "inf"
    request = model.runner.requests[-1]
    assert request.sampling == Sampling(
        **given | {"temperature": math.inf},
        logit_bias={7: -100},
        stop=("END",),
        max_tokens=5,
        top_k=3,
        min_p=0.1,
    )
    assert not request.record


def test_nulls_are_defaults(respond, model):
    optional = set(ResponsesRequest.model_fields) - {"model", "input"}
    assert respond(**dict.fromkeys(optional)).status_code == 200
    assert model.runner.requests[-1].sampling == Sampling()


def test_every_field_of_openais_is_known():
    openais = set(response_create_params.ResponseCreateParamsBase.__annotations__) | {"stream"}
    assert openais <= set(ResponsesRequest.model_fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 21, "include": ["message.output_text.logprobs"]}, "top_logprobs"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": True}}, "stream_options.include_usage"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"background": True}, "background"),
        ({"background_options": {}}, "background_options"),
        ({"access_programs": {}}, "access_programs"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"image": {}}, "image"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"prompt_cache_options": {}}, "prompt_cache_options"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "<|refused|>"}, "input"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_name(respond, fields, param):
    answer = respond(**fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert answer.json()["error"]["message"].startswith(f"{param}: ")


@pytest.mark.parametrize("field", ["user", "safety_identifier", "prompt_cache_key", "instructions"])
def test_half_a_surrogate_pair_is_refused_for_it_could_not_be_said_again(client, field):
    body = f'{{"model": "gpt-4o", "input": "hi", "{field}": "\\ud800"}}'
    answer = client.post("/v1/responses", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_said_again_however_deep_or_refused(respond, stream):
    """The writer of events goes 255 levels deep, and there would be no status left to refuse with."""
    statuses = set()
    for depth in range(225, 265):
        schema = {}
        for _ in range(depth):
            schema = {"not": schema}
        tool = {"type": "function", "name": "f", "parameters": schema}
        answer = respond(stream=stream, tools=[tool], tool_choice="none")
        statuses.add(answer.status_code)
        assert answer.status_code == 400 or "completed" in answer.text
    assert statuses == {200, 400}


def test_neither_model_nor_input(client):
    assert client.post("/v1/responses", json={}).json()["error"]["param"] == "input"


def test_a_model_that_is_not_here(respond):
    answer = respond(model="gpt-9")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_too_long_in_the_words_of_this_address(respond, model):
    model.runner.refuse = ContextExceeded("context: got 9 tokens, lower max_tokens.")
    assert respond().json()["error"] == {
        "message": "context: got 9 tokens, lower max_output_tokens.",
        "type": "invalid_request_error",
        "param": "input",
        "code": "context_length_exceeded",
    }


def test_an_error_on_the_way(respond, model):
    model.runner.script = ["Par", EngineStopped("stopped")]
    assert respond().status_code == 503


@pytest.mark.parametrize("stream", [False, True])
def test_the_ticket_is_given_back(respond, model, stream):
    respond(stream=stream)
    assert model.runner.tickets[0].cancelled.is_set()


@pytest.mark.parametrize(("dropped", "context"), [(0, 320), (1, 319), (3, 160), (3, 1)])
def test_truncation_drops_the_oldest_items_until_it_fits(respond, model, dropped, context):
    model.context = context
    texts = [letter * 60 for letter in "abcd"]
    answer = respond(
        input=[{"role": "user", "content": text} for text in texts],
        instructions="x" * 10,
        truncation="auto",
        max_output_tokens=69,
    )
    assert answer.json()["truncation"] == "auto"
    read = bytes(model.runner.requests[-1].prompt[:-1]).decode()
    assert read == "x" * 10 + "".join(texts[dropped:])


def test_input_is_counted(client, model):
    count = client.post("/v1/responses/input_tokens", json={"input": "hello", "instructions": "be brief"})
    assert count.json() == {"object": "response.input_tokens", "input_tokens": 14}
    assert model.runner.requests == []
    assert client.post("/v1/responses/input_tokens", json={"model": "x", "input": "a"}).status_code == 404


def test_what_is_not_offered_says_so(client, respond):
    refused = client.post("/v1/responses/compact", json={"model": "gpt-4o", "input": "hi"})
    assert refused.status_code == 404
    assert "not offered" in refused.json()["error"]["message"]
    kept = respond().json()["id"]
    assert client.post(f"/v1/responses/{kept}/cancel").status_code == 400
    assert client.post("/v1/responses/resp_1/cancel").status_code == 404
