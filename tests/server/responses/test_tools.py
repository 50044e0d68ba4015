"""Calls of functions: in the answer, as events, sent back with what they gave, and gone on from."""

import json

import pytest

ADD = {
    "type": "function",
    "name": "add",
    "description": "Adds.",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
SUB = {"type": "function", "name": "sub", "parameters": None}
CALLED = 'Let me add.\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
TWICE = CALLED + '\n<tool_call>\n{"name": "sub", "arguments": {}}\n</tool_call>'
LOGPROBS = {"include": ["message.output_text.logprobs"]}


def shown(items):
    return [
        (item["type"], item["name"], item["arguments"], item["status"])
        if item["type"] == "function_call"
        else (item["type"], item["content"][0]["text"], item["status"])
        for item in items
    ]


def test_calls_are_items_of_their_own(respond, model):
    model.runner.script = [TWICE]
    answer = respond(tools=[ADD, SUB], **LOGPROBS).json()
    assert shown(answer["output"]) == [
        ("message", "Let me add.", "completed"),
        ("function_call", "add", '{"a": 1}', "completed"),
        ("function_call", "sub", "{}", "completed"),
    ]
    assert len({item["call_id"] for item in answer["output"][1:]}) == 2
    spoken = "".join(each["token"] for each in answer["output"][0]["content"][0]["logprobs"])
    assert spoken.startswith("Let me add.")
    assert "name" not in spoken
    assert answer["tools"] == [ADD | {"strict": True}, SUB | {"description": None, "strict": True}]
    assert answer["tool_choice"] == "auto"
    assert answer["status"] == "completed"


def test_text_that_only_looks_like_a_call_is_text_where_there_are_no_tools(respond, model):
    model.runner.script = [CALLED]
    assert shown(respond().json()["output"]) == [("message", CALLED, "completed")]
    assert shown(respond(tools=[ADD], tool_choice="none").json()["output"]) == [
        ("message", CALLED, "completed")
    ]


def test_streamed_equals_plain(respond, events, model):
    model.runner.script = [TWICE]
    plain = respond(tools=[ADD, SUB], **LOGPROBS).json()["output"]
    *heard, last = events(tools=[ADD, SUB], **LOGPROBS)
    changing = {"id": "", "call_id": ""}
    assert [item | changing for item in last["response"]["output"]] == [item | changing for item in plain]
    assert "".join(
        event["delta"]
        for event in heard
        if event["type"] == "response.function_call_arguments.delta" and event["output_index"] == 1
    ) == '{"a": 1}'  # fmt: skip
    added = [event["item"] for event in heard if event["type"] == "response.output_item.added"]
    assert [item["status"] for item in added] == ["in_progress"] * 3
    assert [(item["name"], item["arguments"]) for item in added[1:]] == [("add", ""), ("sub", "")]
    assert [item["call_id"] for item in added[1:]] == [
        item["call_id"] for item in last["response"]["output"][1:]
    ]


def test_a_call_that_is_cut_is_incomplete(respond, model):
    model.runner.script = [CALLED]
    answer = respond(tools=[ADD], max_output_tokens=CALLED.index("1") + 1).json()
    assert shown(answer["output"])[-1] == ("function_call", "add", '{"a": 1', "incomplete")
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.fixture
def read(model):
    """What the model's template was given last: the messages, the tools."""
    seen = {}
    original = model.tokenizer.chat

    def chat(messages, tools=()):
        seen.update(messages=messages, tools=tools)
        return original(messages, tools)

    model.tokenizer.chat = chat
    return seen


@pytest.mark.parametrize("kept", [False, True], ids=["sent back", "gone on from"])
def test_the_loop(respond, model, read, kept):
    model.runner.script = [TWICE]
    first = respond(tools=[ADD, SUB]).json()
    calls = first["output"][1:]
    given = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": str(at)}
        for at, call in enumerate(calls)
    ]
    model.runner.script = ["It is 2."]
    before = {"previous_response_id": first["id"]} if kept else {}
    history = [] if kept else [{"role": "user", "content": "hi"}, *first["output"]]
    second = respond(input=[*history, *given], tools=[ADD, SUB], **before).json()
    assert shown(second["output"]) == [("message", "It is 2.", "completed")]
    ids = [call["call_id"] for call in calls]
    assert read["messages"] == [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "Let me add.",
            "tool_calls": [
                {"id": ids[0], "type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
                {"id": ids[1], "type": "function", "function": {"name": "sub", "arguments": {}}},
            ],
        },
        {"role": "tool", "tool_call_id": ids[0], "name": "add", "content": "0"},
        {"role": "tool", "tool_call_id": ids[1], "name": "sub", "content": "1"},
    ]
    assert [tool["function"]["name"] for tool in read["tools"]] == ["add", "sub"]


def test_truncation_takes_what_a_call_gave_along_with_it(respond, model, read):
    model.context = 40
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"}
    gave = {"type": "function_call_output", "call_id": "c1", "output": "2"}
    items = [{"role": "user", "content": "x" * 60}, call, gave, {"role": "user", "content": "y" * 29}]
    assert respond(input=items, truncation="auto", max_output_tokens=10).status_code == 200
    assert [message["role"] for message in read["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("choice", "first"),
    [
        ("required", "add"),
        ({"type": "function", "name": "sub"}, "sub"),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sub"}]},
            "sub",
        ),
    ],
    ids=str,
)
def test_a_choice_becomes_the_answers_grammar(respond, model, choice, first):
    answer = respond(tools=[ADD, SUB], tool_choice=choice)
    assert answer.json()["tool_choice"] == choice
    assert f'call_0: "{first}' in model.runner.requests[-1].grammar.source


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tools": [ADD, ADD]}, "tools[1].name"),
        ({"tools": [SUB] * 129}, "tools"),
        ({"tools": [ADD | {"parameters": {"type": "array"}}]}, "tools[0].parameters.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "function", "name": "mul"}}, "tool_choice"),
        ({"tools": [ADD], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        (
            {
                "input": [
                    {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "[]"},
                    {"type": "function_call_output", "call_id": "c1", "output": "2"},
                ]
            },
            "input",
        ),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_what_cannot_be_called_is_refused_by_name(respond, fields, param):
    error = respond(**fields).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize("value", ['"\\ud800"', "[" * 980 + "]" * 980], ids=["half a pair", "deep"])
def test_a_schema_that_could_not_be_written_again_is_refused_where_nothing_may_be_called_too(client, value):
    tools = f'[{{"type": "function", "name": "f", "parameters": {{"x": {value}}}}}]'
    body = f'{{"model": "gpt-4o", "input": "hi", "tool_choice": "none", "tools": {tools}}}'
    answer = client.post("/v1/responses", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] in ("tools[0].parameters", None)  # or the body's reader gave up
