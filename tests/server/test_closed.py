"""What a schema becomes: closed where that changes nothing but what a model would invent."""

import copy

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.schemas import schemas
from thermoscope.server.closed import closed

A = {"a": {"type": "boolean"}}
OPEN = {"type": "object", "properties": A}
SHUT = OPEN | {"additionalProperties": False}
B = {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (OPEN, SHUT),
        (OPEN | {"required": ["b"]}, OPEN | {"required": ["b"]}),
        (OPEN | {"additionalProperties": True}, OPEN | {"additionalProperties": True}),
        (OPEN | {"patternProperties": {"^b$": {}}}, OPEN | {"patternProperties": {"^b$": {}}}),
        (OPEN | {"minProperties": 2}, OPEN | {"minProperties": 2}),
        (OPEN | {"anyOf": [B]}, OPEN | {"anyOf": [B]}),
        ({"type": "object"}, {"type": "object"}),
        ({"items": OPEN}, {"items": SHUT}),
        ({"prefixItems": [OPEN, {"type": "null"}]}, {"prefixItems": [SHUT, {"type": "null"}]}),
        ({"anyOf": [OPEN, {"type": "null"}]}, {"anyOf": [SHUT, {"type": "null"}]}),
        ({"allOf": [OPEN, B]}, {"allOf": [OPEN, B]}),
        ({"$ref": "#/$defs/x", "$defs": {"x": OPEN}}, {"$ref": "#/$defs/x", "$defs": {"x": SHUT}}),
        (
            {"allOf": [{"$ref": "#/$defs/x"}, B], "$defs": {"x": OPEN}},
            {"allOf": [{"$ref": "#/$defs/x"}, B], "$defs": {"x": OPEN}},
        ),
        ({"enum": [{"properties": {}}]}, {"enum": [{"properties": {}}]}),
        ({"type": "object", "properties": {"properties": OPEN}}, {
            "type": "object", "properties": {"properties": SHUT}, "additionalProperties": False
        }),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_closed(given, wanted):
    before = copy.deepcopy(given)
    assert closed(given) == wanted
    assert given == before


def without(schema):
    """The schema with nothing said of further properties."""
    if isinstance(schema, list):
        return [without(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: without(each) for key, each in schema.items() if key != "additionalProperties"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "b", "name", "one", "other", "new"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas().map(without), VALUES)
def test_what_is_valid_for_the_closed_is_valid_for_the_open(schema, value):
    jsonschema.Draft202012Validator.check_schema(closed(schema))
    if jsonschema.Draft202012Validator(closed(schema)).is_valid(value):
        jsonschema.Draft202012Validator(schema).validate(value)
