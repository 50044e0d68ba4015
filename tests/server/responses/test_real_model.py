"""The default model behind responses, asked by OpenAI's client: calls, forms, and its own helpers."""

import json
from typing import Literal

import pytest
from openai.types.responses import ResponseFunctionToolCall
from pydantic import BaseModel

import thermoscope as ts

from ..conftest import serving, strict

QUESTION = "What is the weather in Paris?"
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
    "strict": True,
}
ASKED = {"model": "gpt-4o", "temperature": 0.5, "max_output_tokens": 60, "extra_body": {"seed": 3}}


class Verdict(BaseModel):
    answer: Literal["yes", "no"]
    sure: bool


@pytest.fixture(scope="module")
def client():
    with (
        ts.load(context=1024) as lm,
        serving(lm, ["gpt-4o"]) as address,
        strict(address) as client,
    ):
        yield client


def check(call):
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.status) == ("get_weather", "completed")
    arguments = json.loads(call.arguments)
    assert arguments.keys() == {"city", "unit"}
    assert arguments["unit"] in ("C", "F")


def test_the_loop_with_items_sent_back_is_the_loop_with_a_kept_response(client):
    first = client.responses.create(input=QUESTION, tools=[WEATHER], tool_choice="required", **ASKED)
    calls = [item for item in first.output if item.type == "function_call"]
    for call in calls:
        check(call)
    given = [
        {"type": "function_call_output", "call_id": call.call_id, "output": '{"sky": "clear"}'}
        for call in calls
    ]
    kept = client.responses.create(
        input=given, previous_response_id=first.id, tools=[WEATHER], tool_choice="none", **ASKED
    )
    sent = client.responses.create(
        input=[{"role": "user", "content": QUESTION}, *first.output, *given],
        tools=[WEATHER],
        tool_choice="none",
        **ASKED,
    )
    assert kept.output_text == sent.output_text != ""
    assert kept.usage.input_tokens == sent.usage.input_tokens
    kinds = [item.type for item in client.responses.input_items.list(kept.id, order="asc")]
    assert kinds == ["message", *["function_call"] * len(calls), *["function_call_output"] * len(calls)]


def test_calls_are_streamed_as_they_are_given(client):
    choice = {"type": "function", "name": "get_weather"}
    asked = {"input": QUESTION, "tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False}
    plain = client.responses.create(**asked, **ASKED)
    with client.responses.stream(**asked, **ASKED) as stream:
        heard = list(stream)
        whole = stream.get_final_response()
    (call,) = whole.output
    check(call)
    assert call.parsed_arguments == json.loads(call.arguments)
    assert (call.name, call.arguments) == (plain.output[0].name, plain.output[0].arguments)
    deltas = [event for event in heard if event.type == "response.function_call_arguments.delta"]
    assert "".join(event.delta for event in deltas) == deltas[-1].snapshot == call.arguments


def test_parsed_by_the_client(client):
    parsed = client.responses.parse(input="Is the sky blue?", text_format=Verdict, **ASKED)
    assert isinstance(parsed.output_parsed, Verdict)
    with client.responses.stream(input="Is the sky blue?", text_format=Verdict, **ASKED) as stream:
        assert stream.until_done().get_final_response().output_parsed == parsed.output_parsed


def test_a_seed_gives_a_completions_call(client):
    choice = {"type": "function", "name": "get_weather"}
    given = client.responses.create(input=QUESTION, tools=[WEATHER], tool_choice=choice, **ASKED)
    function = {name: value for name, value in WEATHER.items() if name != "type"}
    completion = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": QUESTION}],
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        temperature=0.5,
        max_tokens=60,
        seed=3,
    )
    assert given.output[0].arguments == completion.choices[0].message.tool_calls[0].function.arguments


def test_scores_of_the_prompt_stand_beside_the_answer(client):
    asked = {"model": "gpt-4o", "input": QUESTION, "max_output_tokens": 2}
    wanted = {"extra_body": {"thermoscope": {"prompt_logprobs": 1}}}
    given = client.responses.create(**asked, **wanted)
    scored = given.thermoscope["prompt_logprobs"]
    assert len(scored) == given.usage.input_tokens
    assert scored[0]["logprob"] is None
    *_, last = client.responses.create(**asked, **wanted, stream=True)
    assert last.response.thermoscope["prompt_logprobs"] == scored


def test_what_a_grammar_costs_stands_beside_the_answer(client):
    own = {"grammar": {"choice": ["yes", "no"]}, "constraint": True}
    given = client.responses.create(**ASKED | {"input": QUESTION, "extra_body": {"thermoscope": own}})
    assert given.output_text in ("yes", "no")
    assert given.thermoscope["constraint"]["answers"] >= 2  # each way to cut them into tokens
    assert given.thermoscope["constraint"]["kl"] >= 0
