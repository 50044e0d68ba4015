"""Answers of a form, over HTTP, by a real engine on a tiny model that speaks at random."""

import json
import re
import time

import jsonschema
import pytest
from starlette.testclient import TestClient

from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.server.app import create_app
from thermoscope.server.options import Options

from . import scripted

SCHEMA = {
    "type": "object",
    "properties": {
        "size": {"type": "integer", "minimum": 0, "maximum": 99},
        "color": {"enum": ["red", "green"]},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["size", "color", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny"))
    with (
        LanguageModel(lambda: Engine(tiny.ours(folder), slots=4, context=200)) as model,
        TestClient(create_app(model, Options(aliases=["tiny"]))) as client,
    ):
        yield client


def body(**fields):
    return {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 150} | fields


def schema_format(schema, **more):
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema} | more}


@pytest.fixture
def ask(client):
    def post(path="/v1/chat/completions", **fields):
        return client.post(path, json=body(**fields))

    return post


@pytest.mark.parametrize("strict", [True, None])
def test_an_answer_is_what_its_schema_holds_valid(ask, strict):
    answer = ask(response_format=schema_format(SCHEMA, strict=strict), n=3, seed=3).json()
    for choice in answer["choices"]:
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)


def test_a_json_object(ask):
    answer = ask(response_format={"type": "json_object"}, n=8, seed=1, logit_bias={"94": 3}).json()
    finished = [choice for choice in answer["choices"] if choice["finish_reason"] == "stop"]
    assert finished
    for choice in finished:
        assert isinstance(json.loads(choice["message"]["content"]), dict)
    assert all(choice["message"]["content"].startswith("{") for choice in answer["choices"])


def test_text_is_free(ask):
    plain, asked = ask(seed=1), ask(seed=1, response_format={"type": "text"})
    assert plain.json()["choices"] == asked.json()["choices"]


def test_a_schema_without_a_schema_is_any_object(ask):
    form = {"type": "json_schema", "json_schema": {"name": "thing"}}
    assert ask(response_format=form, max_tokens=9).json()["choices"][0]["message"]["content"].startswith("{")


def test_properties_that_nobody_named_are_not_invented(ask):
    schema = {"type": "object", "properties": {"color": {"enum": ["red", "green"]}}, "required": ["color"]}
    answer = ask(response_format=schema_format(schema), n=4, seed=3).json()
    said = {choice["message"]["content"] for choice in answer["choices"]}
    assert {text.replace(" ", "") for text in said} <= {'{"color":"red"}', '{"color":"green"}'}


def test_a_stream_says_the_same(client, ask):
    whole = ask(response_format=schema_format(SCHEMA), seed=5).json()["choices"][0]
    with client.stream(
        "POST", "/v1/chat/completions", json=body(response_format=schema_format(SCHEMA), seed=5, stream=True)
    ) as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: {")]
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert text == whole["message"]["content"]
    assert events[-1]["choices"][0]["finish_reason"] == whole["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("held", "pattern"),
    [
        ({"regex": "[ab]{3}"}, "[ab]{3}"),
        ({"choice": ["left", "right"]}, "left|right"),
        ({"lark": 'start: "(" /[a-c]/ ")"'}, r"\([abc]\)"),
    ],
)
def test_other_grammars_at_both_addresses(ask, client, held, pattern):
    said = ask(thermoscope={"grammar": held}).json()["choices"][0]["message"]["content"]
    assert re.fullmatch(pattern, said)
    more = {"model": "tiny", "prompt": "ab", "thermoscope": {"grammar": held}, "max_tokens": 20}
    text = client.post("/v1/completions", json=more).json()["choices"][0]["text"]
    assert re.fullmatch(pattern, text)


def test_a_step_says_what_the_mask_did(ask):
    asked = {"grammar": {"choice": ["left", "right"]}, "steps": True}
    steps = ask(thermoscope=asked).json()["choices"][0]["thermoscope"]["steps"]
    assert steps[0]["constraint"]["allowed"] == 2
    assert 0 < steps[0]["constraint"]["removed_mass"] < 1
    assert steps[0]["constraint"]["work"] > 0
    assert (
        "constraint" not in ask(thermoscope={"steps": True}).json()["choices"][0]["thermoscope"]["steps"][0]
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_finite_grammar_says_how_far_its_answers_are_from_the_models_own(client, ask, stream):
    asked = {"grammar": {"choice": ["ab", "abc", "b"]}, "constraint": True}
    if stream:
        answer = ask(thermoscope=asked, stream=True)
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        (seen,) = (event["thermoscope"] for event in events if "thermoscope" in event)
    else:
        seen = ask(thermoscope=asked).json()["thermoscope"]
    found = seen["constraint"]
    assert found["answers"] == 3
    assert found["kl"] == pytest.approx(found["work"] + found["log_mass"], abs=1e-9)
    assert found["kl"] > 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"thermoscope": {"constraint": True}}, "without a grammar"),
        ({"thermoscope": {"constraint": True, "grammar": {"regex": "a+"}}}, "more than 512 beginnings"),
    ],
)
def test_a_constraint_that_cannot_be_weighed_is_refused(ask, fields, reason):
    for stream in (False, True):
        error = ask(**fields, stream=stream).json()["error"]
        assert reason in error["message"]
        assert error["param"] == "thermoscope.constraint"


def test_plain_texts_do_not_say_what_a_constraint_does(client):
    asked = {"model": "tiny", "thermoscope": {"constraint": True, "grammar": {"regex": "a"}}, "prompt": "a"}
    error = client.post("/v1/completions", json=asked).json()["error"]
    assert error["param"] == "thermoscope.constraint"


REFUSED = [
    ({"response_format": schema_format({"properties": {"a": {"not": {}}}})}, "schema.properties.a.not"),
    ({"response_format": schema_format({"items": {"format": "int32"}})}, "schema.items.format"),
    ({"response_format": schema_format({"type": "string", "pattern": "(?=a)"})}, "look-around"),
    ({"response_format": schema_format({"oneOf": [{"type": "number"}, {"type": "integer"}]})}, "oneOf"),
    ({"response_format": schema_format({"enum": [*range(50_000)]})}, "bytes"),
    ({"thermoscope": {"grammar": {"regex": "("}}}, "unclosed group"),
    ({"thermoscope": {"grammar": {"regex": "|".join(f"a{{{i}}}" for i in range(3000))}}}, "too many"),
    ({"thermoscope": {"grammar": {"lark": "begin: /a/"}}}, "start"),
    (
        {"response_format": {"type": "json_object"}, "thermoscope": {"grammar": {"regex": "a"}}},
        "leave one out",
    ),
    ({"response_format": {"type": "json_object"}, "thermoscope": {"ignore_eos": True}}, "ignore_eos"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "reason"), REFUSED)
def test_what_cannot_be_held_to_is_refused_in_time_and_says_why(ask, fields, reason, stream):
    began = time.perf_counter()
    answer = ask(**fields, stream=stream)
    assert time.perf_counter() - began < 2
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert reason in error["message"]
    assert error["type"] == "invalid_request_error"
    assert error["param"].split(".")[0] in ("response_format", "thermoscope", "ignore_eos")


def test_a_grammar_is_compiled_before_the_engine_is_asked():
    model = scripted.model()
    with TestClient(create_app(model, Options(aliases=["tiny"]))) as client:
        client.post("/v1/chat/completions", json=body(response_format={"type": "json_object"}))
        client.post("/v1/chat/completions", json=body())
    assert [grammar.kind for grammar in model.runner.compiled] == ["json_schema"]
