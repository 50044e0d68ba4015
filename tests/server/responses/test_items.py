"""What goes in: each kind of item, what it becomes in the conversation, and what is refused."""

import pytest

CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
GAVE = {"type": "function_call_output", "call_id": "c1", "output": "2"}


@pytest.fixture
def read(respond, model):
    """What the model's template was given for an input."""

    def read(items, **fields):
        seen = []
        original = model.tokenizer.chat
        model.tokenizer.chat = lambda messages, tools=(): seen.extend(messages) or original(messages, tools)
        answer = respond(input=items, **fields)
        assert answer.status_code == 200, answer.text
        return seen

    return read


def test_a_text_is_what_a_user_says(read):
    assert read("hi", instructions="be brief") == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]


def test_messages(read):
    parts = [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]
    said = [{"type": "output_text", "text": "yes", "annotations": [], "logprobs": [{"token": "yes"}]}]
    items = [
        {"type": "message", "role": "developer", "content": "be brief"},
        {"role": "assistant", "content": "yes", "phase": "commentary"},
        {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": said},
        {"role": "user", "content": parts},
    ]
    assert read(items) == [
        {"role": "system", "content": "be brief"},
        {"role": "assistant", "content": "yes"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "one\ntwo"},
    ]


@pytest.mark.parametrize(
    ("item", "param", "told"),
    [
        ({"type": "reasoning", "summary": []}, "input[0]", "expected an item of the type message"),
        ({"type": "computer_call"}, "input[0]", "expected an item of the type message"),
        (7, "input[0]", "expected an item of the type message"),
        ({"role": "tool", "content": "x"}, "input[0].role", "expected 'system', 'developer'"),
        ({"role": "user"}, "input[0].content", "missing"),
        ({"role": "user", "content": []}, "input[0].content", "at least 1 item"),
        ({"role": "user", "content": "a", "name": "Ada"}, "input[0].name", "no field of that name"),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]},
            "input[0].content[0].type",
            "the model reads text, and no images",
        ),
        ({"id": "msg_1"}, "input[0].id", "expected an item of a response that is kept here"),
        ({"type": "item_reference", "id": "x"}, "input[0].id", "expected an item of a response"),
        ({**CALL, "arguments": {}}, "input[0].arguments", "string"),
        (CALL, "input", "function_call with the call_id 'c1', expected a function_call_output"),
        (GAVE, "input", "function_call_output with the call_id 'c1', expected a function_call "),
    ],
    ids=str,
)
def test_what_is_no_item_is_refused_by_name(respond, item, param, told):
    error = respond(input=[item]).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")
    assert told in error["message"]


def test_many_references_to_one_long_item_are_refused(respond, monkeypatch):
    monkeypatch.setattr("thermoscope.server.responses.items.REFERRED", 5_000)
    first = respond(input=[{"role": "user", "content": "x" * 1_000, "id": "msg_long"}])
    assert first.status_code == 200
    assert respond(input=[{"id": "msg_long"}] * 3).status_code == 200
    error = respond(input=[{"id": "msg_long"}] * 9).json()["error"]
    assert error["param"] == "input[4].id"
