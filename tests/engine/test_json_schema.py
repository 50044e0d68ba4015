"""Which keyword is refused, and where: against llguidance's own word for it."""

import llguidance
import pytest

from thermoscope.engine import json_schema
from thermoscope.errors import InvalidRequest

PLACES = {
    "schema": lambda part: part,
    "schema.properties.a": lambda part: {"properties": {"a": part}},
    "schema.properties.not": lambda part: {"properties": {"not": part}},
    "schema.items": lambda part: {"items": part},
    "schema.items[1]": lambda part: {"items": [True, part]},
    "schema.prefixItems[0]": lambda part: {"prefixItems": [part]},
    "schema.anyOf[1].additionalProperties": lambda part: {"anyOf": [{}, {"additionalProperties": part}]},
    "schema.$defs.x.allOf[0].patternProperties.^a": lambda part: {
        "$defs": {"x": {"allOf": [{"patternProperties": {"^a": part}}]}}
    },
}


def own_word(schema):
    make = llguidance.LLMatcher
    return make.validate_grammar(make.grammar_from_json_schema(schema))


@pytest.mark.parametrize("place", PLACES)
def test_a_keyword_that_is_not_supported_is_named_with_its_place(place):
    with pytest.raises(InvalidRequest) as refusal:
        json_schema.check(PLACES[place]({"type": "array", "uniqueItems": True}))
    assert str(refusal.value).startswith(f"{place}.uniqueItems: this keyword is not supported")


@pytest.mark.parametrize("keyword", sorted(json_schema.UNSUPPORTED - {"x-guidance", "$recursiveAnchor"}))
def test_what_is_refused_is_what_the_grammar_refuses(keyword):
    assert own_word({keyword: {}}).startswith(f'Unimplemented keys: ["{keyword}"]')
    with pytest.raises(InvalidRequest, match="is not supported"):
        json_schema.check({keyword: {}})


@pytest.mark.parametrize("known", sorted(json_schema.FORMATS))
def test_a_format_that_is_taken_is_one_that_the_grammar_knows(known):
    schema = {"type": "string", "format": known}
    json_schema.check(schema)
    assert own_word(schema) == ""


def test_an_unknown_format_is_named_with_its_place():
    with pytest.raises(InvalidRequest, match=r"^schema\.items\.format: got 'int32', expected one of date, "):
        json_schema.check({"items": {"format": "int32"}})
    for odd in ({}, [], 1, None):  # a mapping has no place in a set
        with pytest.raises(InvalidRequest, match=r"^schema\.format: got "):
            json_schema.check({"format": odd})


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {
            "title": "x",
            "description": "not",
            "default": {"not": 1},
            "examples": [{"if": 1}],
            "foo": {"if": 1},
        },
        {"enum": [{"not": 1}], "const": {"if": {}}},
        {"properties": {"if": {"type": "string"}, "format": {"enum": ["int32"]}}, "required": ["if"]},
    ],
)
def test_names_and_values_are_no_keywords(schema):
    json_schema.check(schema)


def test_a_boolean_for_an_exclusive_bound_is_of_an_old_draft():
    with pytest.raises(InvalidRequest, match=r"^schema\.exclusiveMinimum: got a boolean, as drafts before 6"):
        json_schema.check({"minimum": 3, "exclusiveMinimum": True})


def test_levels_are_counted_wherever_they_are():
    schema = {"const": 1}
    for _ in range(70):
        schema = {"default": [schema]}
    with pytest.raises(InvalidRequest, match="got more than 64 levels"):
        json_schema.check(schema)
