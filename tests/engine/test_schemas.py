"""Random JSON Schemas: every finished answer is valid by `jsonschema`, which shares no code with us."""

import collections
import json

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from tests.answers import finish
from tests.schemas import asked, schemas
from thermoscope.engine.engine import Engine
from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest


def check(model, count):
    """Answers to so many schemas; how they ended."""
    engine = Engine(model, slots=2, context=256)
    seen = collections.Counter()

    @settings(
        max_examples=count, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(schemas())
    def each(schema):
        validator = jsonschema.Draft202012Validator
        validator.check_schema(schema)
        try:
            grammar = Grammar.json_schema(schema)
            traces = finish(engine, [asked(grammar, model.tokenizer, seed) for seed in range(2)])
        except InvalidRequest as error:
            seen["refused" if "nsatisfiable" in str(error) else str(error)] += 1
            return
        for trace in traces:
            seen[trace.finish_reason] += 1
            if trace.finish_reason == "stop":
                checked = validator(schema, format_checker=validator.FORMAT_CHECKER)
                checked.validate(json.loads(trace.text))

    each()
    assert seen.keys() <= {"stop", "length", "refused"}  # none is stuck; refused is what contradicts itself
    return seen


def test_sixty_random_schemas(model):
    seen = check(model, 60)
    assert seen["stop"] > 90
    assert seen["refused"] < 12


@pytest.mark.slow
def test_a_thousand_random_schemas(model):
    seen = check(model, 1000)
    print(dict(seen))
    assert seen["stop"] > 1500
    assert seen["refused"] < 200
