"""OpenAI's client from 1.x on: one program for three majors."""

import json

import openai
from pydantic import BaseModel
from run import ADDRESS, ASKED, MODEL, QUESTION, WEATHER, WEATHER_SCHEMA, main, raised

client = openai.OpenAI(
    base_url=f"{ADDRESS}/v1", api_key="none", max_retries=0, _strict_response_validation=True
)
create = client.chat.completions.create
MESSAGES = [{"role": "user", "content": QUESTION}]
SAME = {"model": MODEL, "seed": 3, "temperature": 0.7}


class Weather(BaseModel):
    """The arguments of the function."""

    city: str
    unit: str


def plain_and_streamed_agree():
    plain = create(messages=MESSAGES, max_tokens=30, **SAME).choices[0]
    chunks = list(create(messages=MESSAGES, max_tokens=30, stream=True, **SAME))
    assert plain.message.content.strip()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain.message.content
    assert chunks[-1].choices[0].finish_reason == plain.finish_reason


def usage_is_streamed():
    *_, last = create(
        messages=MESSAGES, max_tokens=5, stream=True, stream_options={"include_usage": True}, **SAME
    )
    assert last.usage.completion_tokens == 5


def logprobs_and_choices():
    answer = create(messages=MESSAGES, max_tokens=5, n=2, logprobs=True, top_logprobs=3, **SAME)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(len(item.top_logprobs) == 3 for item in answer.choices[0].logprobs.content)


def a_required_call():
    choice = create(
        messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, **SAME
    ).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "get_weather"
    Weather.model_validate_json(call.function.arguments)


def a_named_call():
    named = {"type": "function", "function": {"name": "get_weather"}}
    (call,) = create(messages=ASKED, tools=[WEATHER], tool_choice=named, **SAME).choices[0].message.tool_calls
    Weather.model_validate_json(call.function.arguments)


def a_streamed_call():
    chunks = list(
        create(messages=ASKED, tools=[WEATHER], tool_choice="required", stream=True, max_tokens=300, **SAME)
    )
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or () if call.index == 0]
    assert [bool(delta.id) for delta in deltas] == [True] + [False] * (len(deltas) - 1)
    assert [delta.function.name for delta in deltas if delta.function.name] == ["get_weather"]
    Weather.model_validate_json("".join(delta.function.arguments for delta in deltas))


def the_loop_of_call_result_and_answer():
    called = (
        create(messages=ASKED, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False, **SAME)
        .choices[0]
        .message
    )
    result = {
        "role": "tool",
        "tool_call_id": called.tool_calls[0].id,
        "content": json.dumps({"temperature": 21}),
    }
    answer = create(
        messages=[*ASKED, called, result], tools=[WEATHER], tool_choice="none", max_tokens=40, **SAME
    )
    assert answer.choices[0].message.content.strip()


def a_schema_is_parsed():
    answer = client.chat.completions.parse(messages=ASKED, response_format=Weather, max_tokens=200, **SAME)
    assert isinstance(answer.choices[0].message.parsed, Weather)


def a_function_of_a_model_is_parsed():
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    answer = client.chat.completions.parse(
        messages=ASKED, tools=[tool], tool_choice="required", parallel_tool_calls=False, **SAME
    )
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)


def the_stream_helper_puts_calls_together():
    tool = openai.pydantic_function_tool(Weather, name="get_weather")
    with client.chat.completions.stream(
        messages=ASKED, tools=[tool], tool_choice="required", parallel_tool_calls=False, **SAME
    ) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    assert answer.choices[0].message.content is None
    assert isinstance(answer.choices[0].message.tool_calls[0].function.parsed_arguments, Weather)


def a_function_call_of_before_tools():
    function = {"name": "get_weather", "parameters": WEATHER_SCHEMA}
    choice = create(
        messages=ASKED, functions=[function], function_call={"name": "get_weather"}, **SAME
    ).choices[0]
    assert choice.finish_reason == "function_call"
    Weather.model_validate_json(choice.message.function_call.arguments)


def models_are_listed():
    assert MODEL in [model.id for model in client.models.list()]


def errors_have_their_classes():
    for wrong, kind, param in (
        ({"model": "gpt-9"}, openai.NotFoundError, "model"),
        ({"top_p": 2}, openai.BadRequestError, "top_p"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "f"}}},
         openai.BadRequestError, "tool_choice"),
    ):  # fmt: skip
        body = {"messages": MESSAGES, **SAME, **wrong}
        assert raised(kind, lambda body=body: create(**body)).param == param


main(
    [
        plain_and_streamed_agree,
        usage_is_streamed,
        logprobs_and_choices,
        a_required_call,
        a_named_call,
        a_streamed_call,
        the_loop_of_call_result_and_answer,
        a_schema_is_parsed,
        a_function_of_a_model_is_parsed,
        the_stream_helper_puts_calls_together,
        a_function_call_of_before_tools,
        models_are_listed,
        errors_have_their_classes,
    ],
    "openai",
)
