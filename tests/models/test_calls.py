"""Which form a template's model writes calls in, and what stands before it."""

import json

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.models import calls
from thermoscope.models.calls import HERMES, LLAMA3, MISTRAL, MISTRAL_NAMED, MISTRAL_SPACED, format_of, render
from thermoscope.models.chat_template import ChatTemplate

from . import templates

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather <now>.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
USER = {"role": "user", "content": "Zürich?"}


def call(identifier, **arguments):
    return {"id": identifier, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def called(*those, content=""):
    return {"role": "assistant", "content": content, "tool_calls": list(those)}


def result(identifier, content):
    return {"role": "tool", "tool_call_id": identifier, "name": "weather", "content": content}


def template(source):
    return ChatTemplate(source, bos="<s>", eos="</s>")


KNOWN = {
    "qwen 2.5": (templates.QWEN25, HERMES),
    "llama 3.1": (templates.LLAMA31, LLAMA3),
    "mistral nemo": (templates.NEMO, MISTRAL),
    "mistral 7b": (templates.NEMO.replace("[TOOL_CALLS][", "[TOOL_CALLS] ["), MISTRAL_SPACED),
    "devstral": (templates.DEVSTRAL, MISTRAL_NAMED),
}


@pytest.mark.parametrize(("source", "form"), KNOWN.values(), ids=KNOWN)
def test_a_template_shows_its_form(source, form):
    assert format_of(template(source)) is form


@pytest.mark.parametrize(("source", "form"), KNOWN.values(), ids=KNOWN)
def test_history_is_written_as_the_model_would_write_it(source, form):
    """The form's own text of a call is what the template writes for it, but for Mistral's ids."""
    shown = render(template(source), form, [USER, called(call("abcdefghi", city="Zürich"))], [WEATHER])
    written = form.text([call("abcdefghi", city="Zürich")])
    if form in (MISTRAL, MISTRAL_SPACED):
        written = written.replace("}}]", '}, "id": "abcdefghi"}]')
    assert written in shown
    assert shown.count("The weather <now>.") == 1


@pytest.mark.parametrize("source", [templates.SMOLLM2, "{{ messages[0].content }}", "{% for m in %}"])
def test_other_templates_know_none(source):
    assert format_of(template(source)) is None


def test_a_form_that_is_not_known_is_none():
    source = templates.QWEN25.replace('{"name": "', "<function=").replace('", "arguments": ', ">")
    assert format_of(template(source)) is None


def test_tools_that_are_not_told_are_told_by_us():
    """DeepSeek's distilled models: a template that writes calls, and never says which functions there are."""
    source = templates.QWEN25.replace("{{- tool | tojson }}", "").replace("tool | tojson", "''")
    assert format_of(template(source)) is None


def test_what_a_template_without_tools_is_given():
    history = [
        {"role": "system", "content": "Be brief."},
        USER,
        called(call("a", city="Zürich"), call("b", city="Genf"), content="Let me see."),
        result("a", "12 °C"),
        result("b", "rain"),
    ]
    text = render(template(templates.SMOLLM2), None, history, [WEATHER])
    system, user, assistant, answer, rest = text.split("<|im_end|>\n")
    assert system.startswith("<|im_start|>system\nBe brief.\n\n")
    assert json.dumps(WEATHER["function"]) in system
    assert user == "<|im_start|>user\nZürich?"
    assert assistant == (
        "<|im_start|>assistant\nLet me see.\n"
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Genf"}}\n</tool_call>'
    )
    assert answer == (
        "<|im_start|>user\n<tool_response>\n12 °C\n</tool_response>\n<tool_response>\nrain\n</tool_response>"
    )
    assert rest == "<|im_start|>assistant\n"


def test_without_a_system_message_there_is_one_for_the_tools():
    text = render(template(templates.SMOLLM2), None, [USER], [WEATHER])
    assert text.startswith("<|im_start|>system\nYou can call functions")
    assert text.count("<|im_start|>") == 3


def test_calls_without_tools_are_still_written_out():
    text = render(template(templates.SMOLLM2), None, [USER, called(call("a")), result("a", "12 °C")], [])
    assert "You can call functions" not in text
    assert "<tool_response>\n12 °C\n</tool_response>" in text


def test_ids_are_cut_to_what_a_template_takes():
    history = [USER, called(call("call_1")), result("call_1", "12 °C"), called(call("Ab3456789"))]
    text = render(template(templates.NEMO), MISTRAL, history, [WEATHER])
    first, again = text.split('"id": "')[1][:9], text.split('"call_id": "')[1][:9]
    assert first == again != "call_1"
    assert first.isalnum()
    assert '"id": "Ab3456789"' in text


def test_what_a_template_refuses_is_an_invalid_request():
    with pytest.raises(InvalidRequest, match="single tool-calls"):
        render(template(templates.LLAMA31), LLAMA3, [USER, called(call("a"), call("b"))], [WEATHER])


def test_the_forms_differ_in_what_they_begin_with_or_how_they_go_on():
    assert len({form.begun("f", "{}") for form in calls.FORMATS}) == len(calls.FORMATS)
