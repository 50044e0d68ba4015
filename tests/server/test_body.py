"""JSON is read as every reader would read it, or refused."""

import gzip
import json

import pytest

from thermoscope.errors import InvalidRequest
from thermoscope.server.body import is_json, parse, parse_object


@pytest.mark.parametrize("value", [{}, {"a": [1, {"a": 2}], "b": {"a": None}}, [], 1.5, "é", True])
def test_what_is_json_is_what_json_says(value):
    assert parse(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": 1, "a": 1}', "got 'a' twice"),
        (b'[{"b": {"n": 1, "m": 2, "n": 3}}]', "got 'n' twice"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": -1e999}', "-1e999 is larger than any number"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": -' + b"9" * 5000 + b"}", r"broken JSON \(a number of more than 4,300 digits\)"),
        (b"\xff", "broken JSON"),
        (b"{", "broken JSON"),
        (b"", "broken JSON"),
    ],
)
def test_what_is_not_is_refused(body, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        parse(body)
    assert str(caught.value).count("\n") == 0


def test_an_object_is_asked_for():
    assert parse_object(b'{"a": 1}') == {"a": 1}
    with pytest.raises(InvalidRequest, match="got JSON of the type list, expected an object"):
        parse_object(b"[]")


@pytest.mark.parametrize(
    ("header", "is_it"),
    [
        *(
            ("application/json", True),
            ("Application/JSON; charset=x", True),
            ("application/x+json", True),
        ),
        *(("text/plain", False), ("", False), ("text/json", False), ("application/jsonp", False)),
    ],
)
def test_what_a_header_calls_json(header, is_it):
    assert is_json(header) is is_it


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/instruments/temperature"])
def test_a_compressed_body_is_refused_by_its_header(client, path):
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = client.post(path, content=gzip.compress(b"{}"), headers=headers)
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        415,
        "content-encoding: got 'gzip', expected none.",
    )


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/instruments/temperature"])
def test_the_last_of_two_keys_does_not_win(client, path):
    body = '{"model": "gpt-4o", "model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}'
    response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "model"
    assert response.json()["error"]["message"] == "body: got 'model' twice in one object, expected it once."


def test_a_key_in_a_message_counts_too(client):
    body = '{"model": "gpt-4o", "messages": [{"role": "user", "content": "hi", "content": "ho"}]}'
    response = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert response.json()["error"]["param"] == "content"
