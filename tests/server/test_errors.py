"""Bad input: OpenAI's form, its status codes, the field's name; and never a 5xx, a 422 or a 409."""

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thermoscope.errors import BadModelFile, ContextExceeded, EngineStopped
from thermoscope.server import middleware
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.errors import LONGEST
from thermoscope.server.fields import Extension


def problem(response, status=400):
    """The error of a response that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)
    assert "\n" not in error["message"]
    return error


def send(client, body, content_type="application/json"):
    return client.post("/v1/chat/completions", content=body, headers={"content-type": content_type})


USER = {"role": "user", "content": "hi"}

WRONG = [
    ("model", None, "model"),
    ("model", 7, "model"),
    ("messages", None, "messages"),
    ("messages", "hi", "messages"),
    ("messages", [], "messages"),
    ("messages", ["hi"], "messages[0]"),
    ("messages", [{"content": "hi"}], "messages[0].role"),
    ("messages", [{"role": "user"}], "messages[0].content"),
    ("messages", [USER, {"role": "wizard", "content": "hi"}], "messages[1].role"),
    ("messages", [{"role": "tool", "content": "hi", "tool_call_id": "x"}], "messages[0].tool_call_id"),
    ("messages", [{"role": "tool", "content": "hi"}], "messages[0].tool_call_id"),
    ("messages", [{"role": "function", "content": "hi", "name": "x"}], "messages[0].name"),
    ("messages", [{"role": "user", "content": "hi", "tool_call_id": "x"}], "messages[0].tool_call_id"),
    ("messages", [{"role": "user", "content": None}], "messages[0].content"),
    ("messages", [{"role": "user", "content": 3}], "messages[0].content"),
    ("messages", [{"role": "user", "content": []}], "messages[0].content"),
    ("messages", [{"role": "user", "content": ["hi"]}], "messages[0].content[0]"),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    (
        "messages",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}],
        "messages[0].content[0].type",
    ),
    ("messages", [{"role": "user", "content": "hi", "colour": "red"}], "messages[0].colour"),
    (
        "messages",
        [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}],
        "messages[0].tool_calls[0].type",
    ),
    ("messages", [{"role": "user", "content": "<|refused|>"}], "messages"),
    ("temperature", -0.1, "temperature"),
    ("temperature", "hot", "temperature"),
    ("temperature", "1", "temperature"),
    ("temperature", True, "temperature"),
    ("temperature", [], "temperature"),
    ("top_p", -0.1, "top_p"),
    ("top_p", 1.1, "top_p"),
    ("top_p", "0.5", "top_p"),
    ("top_p", False, "top_p"),
    ("n", 0, "n"),
    ("n", 129, "n"),
    ("n", 1.0, "n"),
    ("n", True, "n"),
    ("n", "2", "n"),
    ("seed", 1.5, "seed"),
    ("seed", "1", "seed"),
    ("seed", 2**64, "seed"),
    ("seed", -(2**63) - 1, "seed"),
    ("seed", 10**400, "seed"),
    ("stop", 7, "stop"),
    ("stop", "", "stop[0]"),
    ("stop", ["a", ""], "stop[1]"),
    ("stop", ["a", 1], "stop[1]"),
    ("stop", list("abcde"), "stop"),
    ("stop", {"a": 1}, "stop"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", -1, "max_tokens"),
    ("max_tokens", 1.5, "max_tokens"),
    ("max_tokens", "9", "max_tokens"),
    ("max_completion_tokens", 0, "max_completion_tokens"),
    ("max_completion_tokens", "9", "max_completion_tokens"),
    ("presence_penalty", 2.1, "presence_penalty"),
    ("presence_penalty", "1", "presence_penalty"),
    ("frequency_penalty", -2.1, "frequency_penalty"),
    ("frequency_penalty", [1], "frequency_penalty"),
    ("logit_bias", [1], "logit_bias"),
    ("logit_bias", {"foo": 0}, "logit_bias.foo"),
    ("logit_bias", {"-1": 0}, "logit_bias.-1"),
    ("logit_bias", {"٣": 0}, "logit_bias.٣"),
    ("logit_bias", {"7": 101}, "logit_bias.7"),
    ("logit_bias", {"7": "x"}, "logit_bias.7"),
    ("logprobs", 1, "logprobs"),
    ("logprobs", "true", "logprobs"),
    ("top_logprobs", 5, "top_logprobs"),
    ("top_logprobs", 21, "top_logprobs"),
    ("top_logprobs", -1, "top_logprobs"),
    ("top_logprobs", True, "top_logprobs"),
    ("stream", 1, "stream"),
    ("stream", "yes", "stream"),
    ("stream_options", {"include_usage": True}, "stream_options"),
    ("stream_options", {"include_usage": 1}, "stream_options.include_usage"),
    ("stream_options", {"continuous_usage_stats": True}, "stream_options.continuous_usage_stats"),
    ("stream_options", True, "stream_options"),
    ("user", 7, "user"),
    ("safety_identifier", 7, "safety_identifier"),
    ("prompt_cache_key", [], "prompt_cache_key"),
    ("metadata", {"a": 1}, "metadata.a"),
    ("metadata", {"a" * 65: "b"}, "metadata." + "a" * 65),
    ("metadata", {"a": "b" * 513}, "metadata.a"),
    ("metadata", {str(i): "b" for i in range(17)}, "metadata"),
    ("metadata", "x", "metadata"),
    ("store", True, "store"),
    ("response_format", {"type": "grammar"}, "response_format"),
    ("response_format", {"type": "json_schema", "json_schema": {}}, "response_format.json_schema.name"),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "a", "schema": 1}},
        "response_format.json_schema.schema",
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"items": {"not": {}}}}},
        "response_format.json_schema.schema",
    ),
    ("response_format", "text", "response_format"),
    ("thermoscope", {"grammar": {"regex": "a", "choice": ["a"]}}, "thermoscope.grammar"),
    ("thermoscope", {"grammar": {}}, "thermoscope.grammar"),
    ("thermoscope", {"constraint": 1}, "thermoscope.constraint"),
    ("thermoscope", {"grammar": {"choice": [""]}}, "thermoscope.grammar.choice"),
    ("thermoscope", {"grammar": {"ebnf": "a"}}, "thermoscope.grammar.ebnf"),
    ("modalities", ["text", "audio"], "modalities[1]"),
    ("tools", [{"type": "custom", "custom": {"name": "f"}}], "tools[0].type"),
    ("tool_choice", "required", "tool_choice"),
    ("tool_choice", {"type": "function", "function": {"name": "f"}}, "tool_choice"),
    ("parallel_tool_calls", "no", "parallel_tool_calls"),
    ("functions", [{"name": "f g"}], "functions[0].name"),
    ("function_call", {"name": "f"}, "function_call"),
    ("reasoning_effort", "high", "reasoning_effort"),
    ("verbosity", "low", "verbosity"),
    ("service_tier", "priority", "service_tier"),
    ("audio", {"voice": "alloy", "format": "wav"}, "audio"),
    ("prediction", {"type": "content", "content": "x"}, "prediction"),
    ("moderation", {"model": "x"}, "moderation"),
    ("web_search_options", {}, "web_search_options"),
    ("prompt_cache_options", {}, "prompt_cache_options"),
    ("prompt_cache_retention", "24h", "prompt_cache_retention"),
    ("temprature", 1, "temprature"),
    ("top_k", 5, "top_k"),
    ("thermoscope", [], "thermoscope"),
    ("thermoscope", {"topk": 1}, "thermoscope.topk"),
    ("thermoscope", {"top_k": -1}, "thermoscope.top_k"),
    ("thermoscope", {"top_k": 1.5}, "thermoscope.top_k"),
    ("thermoscope", {"min_p": 1.5}, "thermoscope.min_p"),
    ("thermoscope", {"typical_p": 1.5}, "thermoscope.typical_p"),
    ("thermoscope", {"top_n_sigma": -1}, "thermoscope.top_n_sigma"),
    ("thermoscope", {"epsilon": 1.5}, "thermoscope.epsilon"),
    ("thermoscope", {"eta": "0"}, "thermoscope.eta"),
    ("thermoscope", {"xtc_probability": 1.5}, "thermoscope.xtc_probability"),
    ("thermoscope", {"xtc_threshold": -1}, "thermoscope.xtc_threshold"),
    ("thermoscope", {"mirostat_tau": -1}, "thermoscope.mirostat_tau"),
    ("thermoscope", {"mirostat_eta": -1}, "thermoscope.mirostat_eta"),
    ("thermoscope", {"steer": ""}, "thermoscope.steer"),
    ("thermoscope", {"dynatemp_range": -1}, "thermoscope.dynatemp_range"),
    ("thermoscope", {"dynatemp_exponent": "steep"}, "thermoscope.dynatemp_exponent"),
    ("thermoscope", {"dry_multiplier": -1}, "thermoscope.dry_multiplier"),
    ("thermoscope", {"dry_base": 0.5}, "thermoscope.dry_base"),
    ("thermoscope", {"dry_allowed_length": 0}, "thermoscope.dry_allowed_length"),
    ("thermoscope", {"dry_breakers": [-1]}, "thermoscope.dry_breakers[0]"),
    ("thermoscope", {"profile": "ollama"}, "thermoscope.profile"),
    ("thermoscope", {"profile": "vllm", "typical_p": 0.9}, "typical_p"),
    ("thermoscope", {"min_p": "0"}, "thermoscope.min_p"),
    ("thermoscope", {"repetition_penalty": 0}, "thermoscope.repetition_penalty"),
    ("thermoscope", {"repetition_penalty": True}, "thermoscope.repetition_penalty"),
    ("thermoscope", {"stop_ids": 1}, "thermoscope.stop_ids"),
    ("thermoscope", {"stop_ids": [-1]}, "thermoscope.stop_ids[0]"),
    ("thermoscope", {"ignore_eos": 1}, "thermoscope.ignore_eos"),
    ("thermoscope", {"steps": "yes"}, "thermoscope.steps"),
    ("thermoscope", {"top_logprobs": -1}, "thermoscope.top_logprobs"),
    ("thermoscope", {"prompt_logprobs": 1.5}, "thermoscope.prompt_logprobs"),
    ("thermoscope", {"timeout": 0}, "thermoscope.timeout"),
    ("thermoscope", {"trace": "yes"}, "thermoscope.trace"),
]


@pytest.mark.parametrize(
    ("field", "value", "param"), WRONG, ids=[f"{field}-{i}" for i, (field, *_) in enumerate(WRONG)]
)
def test_a_wrong_value_is_refused_by_name(ask, model, field, value, param):
    error = problem(ask(**{field: value}))
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param.split("[")[0] in error["message"]
    assert len(error["message"]) < 400
    assert not model.runner.requests


def test_every_field_has_a_wrong_value_above():
    named = {param for *_, param in WRONG}
    assert {field for field, *_ in WRONG} >= set(ChatRequest.model_fields)
    assert {name.split("[")[0] for name in named} >= {
        f"thermoscope.{name}" for name in Extension.model_fields
    }


def test_the_message_says_what_was_got_and_what_was_expected(ask):
    assert problem(ask(top_p=1.5))["message"] == "top_p: got 1.5, expected less than or equal to 1."
    message = problem(ask(messages=[{"role": "wizard", "content": "x"}]))["message"]
    assert message == (
        "messages[0].role: got 'wizard', expected 'system', 'developer', 'user', 'assistant', 'tool' or "
        "'function'."
    )


def test_a_long_value_is_not_echoed_whole(ask):
    assert len(problem(ask(temperature="x" * 10_000))["message"]) < 300
    assert len(problem(ask(**{"y" * 10_000: 1}))["message"]) < 300


@pytest.mark.parametrize(
    "body", ["", "{", "nonsense", '{"model": "gpt-4o",}', "\ud800".encode("utf-8", "surrogatepass"), b"\xff"]
)
def test_a_body_that_is_no_json(client, body):
    assert problem(send(client, body))["param"] is None


@pytest.mark.parametrize("body", ["[]", "3", "null", '"hi"', "NaN"])
def test_a_body_that_is_no_object(client, body):
    assert "object" in problem(send(client, body))["message"]


def test_a_body_without_its_content_type(client):
    """As `curl -d` sends it: the message names the header."""
    body = json.dumps({"model": "gpt-4o", "messages": [USER]})
    response = send(client, body, "application/x-www-form-urlencoded")
    assert "application/json" in problem(response)["message"]


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "9" * 5000])
@pytest.mark.parametrize("field", ["top_p", "seed", "n", "presence_penalty", "max_tokens"])
def test_numbers_beyond_json(client, field, number):
    body = f'{{"model": "gpt-4o", "messages": [{{"role": "user", "content": "hi"}}], "{field}": {number}}}'
    problem(send(client, body))


@pytest.mark.parametrize("depth", [100, 900, 990, 100_000])
def test_a_body_nested_too_deep(client, depth):
    """Still readable, hardly, and not at all."""
    body = '{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "user": '
    body += "[" * depth + "]" * depth + "}"
    problem(send(client, body))


HALF = "\\ud83d"  # what is left of an emoji that was cut in two, as JSON escapes it


@pytest.mark.parametrize(
    ("field", "param", "status"),
    [
        (f'"model": "{HALF}"', "model", 404),
        (f'"messages": [{{"role": "user", "content": "{HALF}"}}]', "messages[0].content[0].text", 400),
        (f'"stop": "{HALF}"', "stop[0]", 400),
        (f'"metadata": {{"a": 1, "{HALF}": 1}}', "metadata.a", 400),
        (f'"{HALF}": 1', None, 400),
    ],
)
def test_half_a_surrogate_pair_is_refused_in_valid_utf8(client, field, param, status):
    rest = {'"model"': '"gpt-4o"', '"messages"': '[{"role": "user", "content": "hi"}]'}
    others = [f"{name}: {value}" for name, value in rest.items() if not field.startswith(name)]
    response = send(client, f"{{{', '.join([*others, field])}}}")
    assert problem(response, status)["param"] == param


def test_a_body_too_large(client):
    body = b'{"model": "' + b"x" * middleware.BODY_LIMIT + b'"}'
    assert "8388608" in problem(send(client, body), 413)["message"]
    assert client.get("/health").status_code == 200


def test_both_limits_at_once(ask):
    assert problem(ask(max_tokens=5, max_completion_tokens=5))["param"] == "max_tokens"


def test_a_model_that_is_not_loaded(ask):
    error = problem(ask(model="gpt-9"), 404)
    assert error["param"] == "model"
    assert error["code"] == "model_not_found"
    assert "Scripted-1B" in error["message"]


def test_an_address_that_is_not_there(client):
    assert "/v1/nothing" in problem(client.get("/v1/nothing"), 404)["message"]


def test_a_method_that_is_not_there(client):
    response = client.get("/v1/chat/completions")
    assert "GET" in problem(response, 405)["message"]
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code", "kind"),
    [
        (ContextExceeded("too long"), 400, "context_length_exceeded", "invalid_request_error"),
        (EngineStopped("stopped"), 503, "engine_stopped", "server_error"),
        (BadModelFile("broken"), 500, None, "server_error"),
    ],
)
def test_what_the_engine_refuses(ask, model, error, status, code, kind, stream):
    model.runner.refuse = error
    told = problem(ask(stream=stream), status)
    assert (told["code"], told["type"], told["message"]) == (code, kind, str(error))


def test_an_engine_that_stops_on_the_way(ask, model):
    model.runner.script = ["Par", EngineStopped("stopped")]
    assert problem(ask(), 503)["code"] == "engine_stopped"
    assert model.runner.tickets[0].cancelled.is_set()


def test_an_unexpected_error_is_logged_and_not_told(ask, model, caplog):
    model.runner.refuse = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR, "thermoscope.server.errors"):
        response = ask()
    assert "secret" not in problem(response, 500)["message"]
    assert response.headers["x-request-id"]
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["inf", "text"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(sorted(ChatRequest.model_fields))
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system"]) | JSON,
            "content": st.text(max_size=8) | JSON,
        }
    ),
    max_size=3,
)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(fields=st.dictionaries(FIELDS, JSON, max_size=4), messages=MESSAGES)
def test_whatever_comes_is_answered_or_refused(client, fields, messages):
    body = json.dumps({"model": "gpt-4o", "messages": messages} | fields)
    response = send(client, body)
    if response.status_code != 200:
        problem(response, 404 if response.status_code == 404 else 400)


def test_a_message_is_no_longer_than_it_can_be_read(client):
    # What the client sent in the name's place comes back by its ends, what to do beside it.
    error = problem(send(client, json.dumps({"model": "x" * 100_000, "messages": [USER]})), status=404)
    assert len(error["message"]) == LONGEST + 3
    assert error["message"].startswith("The model 'xxx")
    assert error["message"].endswith("start the server with --alias.")
