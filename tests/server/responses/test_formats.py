"""The form of a response's text, on the way to the engine and back."""

import pytest

from thermoscope.engine.grammar import Grammar
from thermoscope.server.closed import closed

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
FORM = {"type": "json_schema", "name": "one", "schema": SCHEMA, "strict": True}


@pytest.mark.parametrize(
    ("form", "grammar"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar.json_object()),
        (FORM, Grammar.json_schema(closed(SCHEMA))),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_form_is_the_answers_grammar(respond, model, form, grammar):
    answer = respond(text={"format": form})
    assert answer.json()["text"] == {"format": form, "verbosity": "medium"}
    found = model.runner.requests[-1].grammar
    assert (found and (found.kind, found.source)) == (grammar and (grammar.kind, grammar.source))


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "grammar"}, "text.format"),
        ({"type": "json_schema", "schema": SCHEMA}, "text.format.name"),
        ({"type": "json_schema", "name": "one"}, "text.format.schema"),
        ({"type": "json_schema", "name": "one", "schema": [1]}, "text.format.schema"),
        ({**FORM, "more": 1}, "text.format.more"),
    ],
    ids=str,
)
def test_what_is_no_form_is_refused_by_name(respond, form, param):
    error = respond(text={"format": form}).json()["error"]
    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


def test_a_schema_that_cannot_be_used_is_refused_in_the_words_of_this_address(respond):
    deep = {"type": "integer"}
    for _ in range(70):
        deep = {"type": "array", "items": deep}
    error = respond(text={"format": FORM | {"schema": deep}}).json()["error"]
    assert error["param"] == "text.format.schema"
    assert "response_format" not in error["message"]
