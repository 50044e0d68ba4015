"""Functions with the default model behind the server, through OpenAI's own client and its helpers."""

import json
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, Field

import thermoscope as ts

from .conftest import serving, strict

ASKED = [{"role": "user", "content": "What is the weather in Paris?"}]


class Weather(BaseModel):
    """The weather in a city now."""

    city: str = Field(max_length=30)
    unit: Literal["celsius", "fahrenheit"]


class Clock(BaseModel):
    """The time in a time zone now."""

    zone: str = Field(max_length=30)


TOOLS = [openai.pydantic_function_tool(Weather), openai.pydantic_function_tool(Clock)]
NAMED = {"type": "function", "function": {"name": "Weather"}}


@pytest.fixture(scope="module")
def client():
    with (
        ts.load(context=1024) as lm,
        serving(lm, ["gpt-4o"]) as address,
        strict(address) as client,
    ):
        yield client


@pytest.fixture
def same():
    return {"model": "gpt-4o", "messages": ASKED, "tools": TOOLS, "seed": 5, "temperature": 0.7}


def test_plain_streamed_and_put_together_are_one_answer(client, same):
    same |= {"tool_choice": "required", "parallel_tool_calls": False}
    plain = client.chat.completions.create(**same).choices[0]
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**same, stream=True)]
    with client.chat.completions.stream(**same) as stream:
        events = list(stream)
        whole = stream.get_final_completion().choices[0]
    (call,) = plain.message.tool_calls
    deltas = [chunk.delta.tool_calls[0] for chunk in chunks if chunk.delta.tool_calls]
    assert [delta.function.name for delta in deltas if delta.function.name] == [call.function.name]
    assert "".join(delta.function.arguments for delta in deltas) == call.function.arguments
    assert not any(chunk.delta.content for chunk in chunks)
    assert whole.message.content is plain.message.content is None
    assert whole.message.tool_calls[0].function.arguments == call.function.arguments
    assert isinstance(whole.message.tool_calls[0].function.parsed_arguments, Weather | Clock)
    assert {chunk.finish_reason for chunk in chunks} == {None, "tool_calls"}
    assert plain.finish_reason == whole.finish_reason == "tool_calls"
    assert "tool_calls.function.arguments.done" in {event.type for event in events}


def test_a_named_function_is_parsed(client, same):
    answer = client.chat.completions.parse(
        **same, tool_choice=NAMED, logprobs=True, extra_body={"thermoscope": {"steps": True}}
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)
    text = b"".join(bytes(item.bytes) for item in answer.choices[0].logprobs.content).decode()
    assert call.function.arguments in text
    work = [step["constraint"]["work"] for step in answer.choices[0].thermoscope["steps"]]
    assert min(work) >= 0
    assert sum(work) > 1  # nats that the form took


def test_the_loop_of_call_result_and_answer(client, same):
    called = client.chat.completions.create(**same, tool_choice=NAMED).choices[0].message
    result = {
        "role": "tool",
        "tool_call_id": called.tool_calls[0].id,
        "content": json.dumps({"weather": "sunny", "degrees": 21}),
    }
    same["messages"] = [*ASKED, called, result]
    answer = client.chat.completions.create(**same, tool_choice="none", max_tokens=12).choices[0]
    assert answer.message.content.strip()
    assert answer.message.tool_calls is None
