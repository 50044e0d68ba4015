"""OpenAI's client as it was in 2023; the cards' own snippets have a test of their own."""

import json

import openai
from run import ADDRESS, ASKED, MODEL, QUESTION, WEATHER_SCHEMA, main, raised

openai.api_base = f"{ADDRESS}/v1"
openai.api_key = "none"
create = openai.ChatCompletion.create
MESSAGES = [{"role": "user", "content": QUESTION}]
SAME = {"model": MODEL, "seed": 3, "temperature": 0.7}
FUNCTION = {"name": "get_weather", "description": "The weather now.", "parameters": WEATHER_SCHEMA}
NAMED = {"name": "get_weather"}


def plain_and_streamed_agree():
    plain = create(messages=MESSAGES, max_tokens=30, **SAME).choices[0]
    chunks = list(create(messages=MESSAGES, max_tokens=30, stream=True, **SAME))
    said = "".join(chunk.choices[0].delta.get("content") or "" for chunk in chunks)
    assert said == plain.message.content


def a_function_call():
    choice = create(messages=ASKED, functions=[FUNCTION], function_call=NAMED, **SAME).choices[0]
    assert choice.finish_reason == "function_call"
    assert choice.message.function_call.name == "get_weather"
    assert json.loads(choice.message.function_call.arguments).keys() == {"city", "unit"}


def a_streamed_function_call():
    chunks = list(create(messages=ASKED, functions=[FUNCTION], function_call=NAMED, stream=True, **SAME))
    calls = [chunk.choices[0].delta["function_call"] for chunk in chunks
             if "function_call" in chunk.choices[0].delta]  # fmt: skip
    assert [call["name"] for call in calls if "name" in call] == ["get_weather"]
    assert json.loads("".join(call["arguments"] for call in calls)).keys() == {"city", "unit"}


def the_loop_of_call_result_and_answer():
    called = create(messages=ASKED, functions=[FUNCTION], function_call=NAMED, **SAME).choices[0].message
    result = {"role": "function", "name": "get_weather", "content": '{"temperature": 21}'}
    answer = create(
        messages=[*ASKED, called, result], functions=[FUNCTION], function_call="none", max_tokens=40, **SAME
    )
    assert answer.choices[0].message.content.strip()


def errors_have_their_classes():
    error = raised(
        openai.error.InvalidRequestError,
        lambda: create(messages=MESSAGES, functions=[FUNCTION], function_call={"name": "f"}, **SAME),
    )
    assert error.param == "function_call"


main(
    [
        plain_and_streamed_agree,
        a_function_call,
        a_streamed_function_call,
        the_loop_of_call_result_and_answer,
        errors_have_their_classes,
    ],
    "openai",
)
