"""Functions offered in conversations, and calls in answers: the wire shapes, with a scripted model."""

import json

import pytest

from thermoscope.models.calls import HERMES

from .test_stream import choice_of, events

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
TOOLS = [WEATHER, CLOCK]
FUNCTIONS = [tool["function"] for tool in TOOLS]
NAMED = {"type": "function", "function": {"name": "clock"}}


def written(*calls):
    """Calls as the scripted model writes them."""
    return HERMES.text([{"function": {"name": name, "arguments": arguments}} for name, arguments in calls])


def refused(response):
    assert response.status_code == 400, response.text
    return response.json()["error"]


def choice(response):
    assert response.status_code == 200, response.text
    (found,) = response.json()["choices"]
    return found


def test_a_call(ask, model):
    model.runner.script = [written(("weather", {"city": "Zürich"}))]
    found = choice(ask(tools=TOOLS))
    (call,) = found["message"].pop("tool_calls")
    assert found["message"] == {"role": "assistant", "content": None, "refusal": None}
    assert found["finish_reason"] == "tool_calls"
    assert call == {
        "id": call["id"],
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
    }
    assert call["id"].startswith("call_")


def test_several_calls_after_text(ask, model):
    model.runner.script = ["One moment.\n", written(("weather", {"city": "Bern"}), ("clock", {}))]
    message = choice(ask(tools=TOOLS))["message"]
    assert message["content"] == "One moment."
    first, second = message["tool_calls"]
    assert [call["function"]["name"] for call in (first, second)] == ["weather", "clock"]
    assert first["id"] != second["id"]


def test_no_call_is_an_answer_as_ever(ask, model):
    found = choice(ask(tools=TOOLS))
    assert found["message"] == {"role": "assistant", "content": "Paris.", "refusal": None}
    assert found["finish_reason"] == "stop"


def test_without_tools_marks_are_text(ask, model):
    model.runner.script = [written(("clock", {}))]
    for fields in ({}, {"tools": TOOLS, "tool_choice": "none"}, {"tools": []}):
        found = choice(ask(**fields))
        assert found["message"]["content"] == written(("clock", {}))
        assert found["finish_reason"] == "stop"


def test_an_answer_cut_in_a_call_ends_with_length(ask, model):
    model.runner.script = [written(("weather", {"city": "Bern"}))]
    found = choice(ask(tools=TOOLS, max_tokens=len(written(("weather", {"city": "Bern"}))) - 22))
    assert found["finish_reason"] == "length"
    assert found["message"]["tool_calls"][0]["function"]["arguments"] == '{"city":'
    assert choice(ask(tools=TOOLS, max_tokens=20))["message"] == {
        "role": "assistant",
        "content": "",
        "refusal": None,
    }


def test_streamed_id_and_name_come_once_and_marks_never(ask, model):
    model.runner.script = ["Well.\n", written(("weather", {"city": "Bern"}), ("clock", {}))]
    *chunks, done = events(ask(tools=TOOLS, stream=True))
    assert done == "[DONE]"
    first, *middle, last = map(choice_of, chunks)
    assert first["delta"] == {"role": "assistant", "content": None}
    assert last == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}
    assert all(each["finish_reason"] is None for each in middle)
    said = [each["delta"]["content"] for each in middle if "content" in each["delta"]]
    assert "".join(said) == "Well."
    deltas = [each["delta"]["tool_calls"] for each in middle if "tool_calls" in each["delta"]]
    assert all(len(delta) == 1 for delta in deltas)
    assert len(deltas) + len(said) == len(middle)
    for index, (name, arguments) in enumerate([("weather", '{"city": "Bern"}'), ("clock", "{}")]):
        begins, *more = [delta[0] for delta in deltas if delta[0]["index"] == index]
        assert begins == {
            "index": index,
            "id": begins["id"],
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        assert all(each.keys() == {"index", "function"} for each in more)
        assert all(each["function"].keys() == {"arguments"} for each in more)
        assert "".join(each["function"]["arguments"] for each in more) == arguments


def test_choices_are_read_apart(ask, model):
    model.runner.script = [written(("clock", {}))]
    choices = [choice_of(chunk) for chunk in events(ask(tools=TOOLS, stream=True, n=2))[:-1]]
    for index in (0, 1):
        mine = [
            each["delta"]["tool_calls"][0]
            for each in choices
            if each["index"] == index and "tool_calls" in each["delta"]
        ]
        assert [each.get("id") is not None for each in mine] == [True, False, False]
    reasons = [each["finish_reason"] for each in choices if each["finish_reason"]]
    assert reasons == ["tool_calls"] * 2
    whole = ask(tools=TOOLS, n=2).json()["choices"]
    assert len({each["message"]["tool_calls"][0]["id"] for each in whole}) == 2


def test_logprobs_are_of_every_token_of_the_answer_also_of_its_calls(ask, model):
    text = written(("clock", {}))
    model.runner.script = [text]
    found = choice(ask(tools=TOOLS, logprobs=True))
    assert b"".join(bytes(item["bytes"]) for item in found["logprobs"]["content"]).decode() == text
    choices = [choice_of(chunk) for chunk in events(ask(tools=TOOLS, logprobs=True, stream=True))[:-1]]
    streamed = [item for each in choices if each["logprobs"] for item in each["logprobs"]["content"]]
    assert streamed == found["logprobs"]["content"]


# What a choice offers


@pytest.mark.parametrize(
    ("fields", "told", "held"),
    [
        ({"tools": TOOLS}, ["weather", "clock"], True),
        ({"tools": TOOLS, "tool_choice": "auto"}, ["weather", "clock"], True),
        ({"tools": TOOLS, "tool_choice": "required"}, ["weather", "clock"], True),
        ({"tools": TOOLS, "tool_choice": NAMED}, ["weather", "clock"], True),
        ({"tools": TOOLS, "tool_choice": "none"}, [], False),
        ({"functions": FUNCTIONS}, ["weather", "clock"], True),
        ({"functions": FUNCTIONS, "function_call": {"name": "clock"}}, ["weather", "clock"], True),
        ({"functions": FUNCTIONS, "function_call": "none"}, [], False),
        ({"tool_choice": "auto", "parallel_tool_calls": True}, [], False),
    ],
    ids=str,
)
def test_what_is_told_and_held(ask, model, fields, told, held):
    assert ask(**fields).status_code == 200
    _, tools = model.tokenizer.seen[-1]
    assert [tool["function"]["name"] for tool in tools] == told
    assert (model.runner.requests[-1].grammar is not None) == held


def test_what_the_template_reads_of_a_function(ask, model):
    ask(tools=TOOLS)
    _, (weather, clock) = model.tokenizer.seen[-1]
    assert weather == WEATHER
    assert clock["function"] == {"name": "clock", "parameters": {"type": "object", "properties": {}}}


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def deep(levels):
    """A function whose schema is nested so often."""
    schema = {}
    for _ in range(levels):
        schema = {"properties": {"a": schema}}
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


def large(name):
    """A function whose schema is a quarter of what a request may have."""
    properties = {f"{name}{i}": {"type": "string"} for i in range(600)}
    return {"type": "function", "function": {"name": name, "parameters": {"properties": properties}}}


HALF = {"type": "function", "function": {"name": "f", "parameters": {"title": "\ud800"}}}


MANY = [{"type": "function", "function": {"name": f"f{i}"}} for i in range(129)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": MANY}, "tools"),
        ({"tools": [CLOCK, CLOCK]}, "tools[1].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": "a" * 65}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "f", "code": "x"}}]}, "tools[0].function.code"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}}]},
            "tools[0].function.parameters.type",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [CLOCK, deep(70)]}, "tools[1].function.parameters"),
        ({"tools": [CLOCK, deep(200)]}, "tools[1].function.parameters"),
        ({"tools": [large(name) for name in "abcd"]}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": TOOLS, "tool_choice": {"type": "custom", "custom": {"name": "f"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": 1}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice"),
        ({"tools": TOOLS, "functions": FUNCTIONS}, "functions"),
        ({"functions": FUNCTIONS, "function_call": {"name": "f"}}, "function_call"),
        ({"functions": FUNCTIONS, "function_call": "required"}, "function_call"),
        ({"function_call": {"name": "clock"}}, "function_call"),
        ({"functions": [FUNCTIONS[1]] * 2}, "functions[1].name"),
    ],
)
def test_what_is_refused(ask, fields, param):
    assert refused(ask(**fields))["param"] == param


@pytest.mark.parametrize(
    ("tool", "wanted"), [(deep(300), "that is nested less deeply"), (HALF, "without half surrogate pairs")]
)
def test_a_schema_that_cannot_be_written_says_why(client, tool, wanted):
    body = json.dumps({"model": "gpt-4o", "messages": [USER], "tools": [tool]})
    answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert refused(answer)["message"].endswith(f"expected a schema {wanted}.")


def test_some_of_the_tools_can_be_allowed(ask, model):
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED]}}
    assert ask(tools=TOOLS, tool_choice=allowed).status_code == 200
    source = model.runner.requests[-1].grammar.source
    assert "clock" in source
    assert "weather" not in source
    allowed["allowed_tools"]["tools"] = [{"type": "function", "function": {"name": "f"}}]
    assert refused(ask(tools=TOOLS, tool_choice=allowed))["param"] == "tool_choice"


# The words of before tools


def test_a_function_call(ask, model):
    model.runner.script = [written(("weather", {"city": "Bern"}))]
    found = choice(ask(functions=FUNCTIONS))
    assert found["finish_reason"] == "function_call"
    assert found["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "function_call": {"name": "weather", "arguments": '{"city": "Bern"}'},
    }
    choices = [choice_of(chunk) for chunk in events(ask(functions=FUNCTIONS, stream=True))[:-1]]
    begins, *more = [each["delta"]["function_call"] for each in choices if "function_call" in each["delta"]]
    assert begins == {"name": "weather", "arguments": ""}
    assert "".join(each["arguments"] for each in more) == '{"city": "Bern"}'
    assert choices[-1]["finish_reason"] == "function_call"


# Calls and results in the conversation


@pytest.fixture
def read(ask, model):
    """The messages that the chat template is given for a request's messages."""

    def read(*messages):
        response = ask(messages=list(messages))
        assert response.status_code == 200, response.text
        return model.tokenizer.seen[-1][0]

    return read


def call(identifier, name, arguments="{}"):
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "hi"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [call("x", "weather", '{"city": "Bern"}')]}


def test_calls_and_results_reach_the_template(read):
    assert read(USER, CALLED, {"role": "tool", "tool_call_id": "x", "content": "12 °C"}) == [
        USER,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": "x",
                    "type": "function",
                    "function": {"name": "weather", "arguments": {"city": "Bern"}},
                }
            ],
        },
        {"role": "tool", "content": "12 °C", "tool_call_id": "x", "name": "weather"},
    ]


def test_the_words_of_before_tools_become_todays(read):
    called = {"role": "assistant", "content": None, "function_call": {"name": "clock", "arguments": ""}}
    _, answer, result = read(USER, called, {"role": "function", "name": "clock", "content": "noon"})
    (one,) = answer["tool_calls"]
    assert one["function"] == {"name": "clock", "arguments": {}}
    assert result == {"role": "tool", "content": "noon", "tool_call_id": one["id"], "name": "clock"}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([USER, {"role": "assistant", "content": None}], "messages[1].content"),
        ([USER, {"role": "assistant", "content": None, "tool_calls": []}], "messages[1].content"),
        ([USER, {"role": "tool", "content": "12 °C"}], "messages[1].tool_call_id"),
        (
            [USER, CALLED, {"role": "tool", "content": "12 °C", "tool_call_id": "y"}],
            "messages[2].tool_call_id",
        ),
        ([USER, CALLED, {"role": "tool", "tool_call_id": "x"}], "messages[2].content"),
        ([USER, CALLED, {"role": "function", "content": "noon"}], "messages[2].name"),
        ([USER, CALLED, {"role": "function", "content": "noon", "name": "clock"}], "messages[2].name"),
        ([{**USER, "tool_calls": CALLED["tool_calls"]}], "messages[0].tool_calls"),
        ([{**USER, "function_call": {"name": "f", "arguments": "{}"}}], "messages[0].function_call"),
        (
            [USER, {"role": "assistant", "tool_calls": [call("x", "f", "[]")]}],
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            [USER, {"role": "assistant", "tool_calls": [call("x", "f"), call("y", "f", "{")]}],
            "messages[1].tool_calls[1].function.arguments",
        ),
        (
            [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": "x"}}],
            "messages[1].function_call.arguments",
        ),
        ([USER, {"role": "assistant", "tool_calls": [{"id": "x"}]}], "messages[1].tool_calls[0].type"),
    ],
    ids=str,
)
def test_what_no_conversation_holds(ask, messages, param):
    assert refused(ask(messages=messages))["param"] == param


def test_arguments_nested_without_end_are_refused(ask):
    deep = call("x", "f", '{"a":' * 100_000)
    assert refused(ask(messages=[USER, {"role": "assistant", "tool_calls": [deep]}]))["param"].endswith(
        "arguments"
    )


def test_an_answer_can_be_sent_back_as_it_came(ask, model):
    model.runner.script = [written(("weather", {"city": "Bern"}))]
    message = choice(ask(tools=TOOLS))["message"]
    result = {
        "role": "tool",
        "tool_call_id": message["tool_calls"][0]["id"],
        "content": json.dumps({"t": 12}),
    }
    assert ask(messages=[USER, message, result], tools=TOOLS).status_code == 200
