"""Vectors over HTTP; what they are is tested in tests/engine/test_embedding.py."""

import asyncio
import base64
import json
import struct

import openai
import pytest

from thermoscope.engine.embedding import embedding, states
from thermoscope.server.app import create_app
from thermoscope.server.options import Options

from .conftest import serving


@pytest.fixture
def ask(tiny_client):
    def post(**fields):
        body = json.dumps({"model": "gpt-4o", "input": "hello"} | fields)
        return tiny_client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})

    return post


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("hello", ["hello"]),
        (["hello", "world"], ["hello", "world"]),
        ([10, 20], [[10, 20]]),
        ([[10, 20], [30]], [[10, 20], [30]]),
    ],
)
def test_each_text_has_its_vector(ask, tiny_lm, given, texts):
    answer = ask(input=given).json()
    ids = [tiny_lm.tokenizer.prompt(text) if isinstance(text, str) else tuple(text) for text in texts]
    assert [each["index"] for each in answer["data"]] == list(range(len(texts)))
    for each, tokens in zip(answer["data"], ids, strict=True):
        assert each["embedding"] == pytest.approx(
            embedding(list(states(tiny_lm.model, tokens))),
            abs=1e-6,  # float32, whose products differ with the company
        )
    tokens = sum(map(len, ids))
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (answer["object"], answer["model"]) == ("list", "gpt-4o")


def test_base64_is_the_same_in_float32(ask):
    plain = ask().json()["data"][0]["embedding"]
    packed = base64.b64decode(ask(encoding_format="base64").json()["data"][0]["embedding"])
    assert struct.unpack(f"<{len(plain)}f", packed) == pytest.approx(plain, abs=1e-7)


def test_a_client_that_is_gone_is_worked_for_no_longer(tiny_lm):
    body = json.dumps({"model": "gpt-4o", "input": ["hello"] * 2048}).encode()
    heard = [{"type": "http.disconnect"}, {"type": "http.request", "body": body}]
    sent = []

    async def receive():
        return heard.pop()

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": headers}
    scope |= {"query_string": b"", "http_version": "1.1", "scheme": "http"}
    asyncio.run(create_app(tiny_lm, Options(aliases=["gpt-4o"]))(scope, receive, send))
    assert sent[0]["status"] == 499


def test_openais_client_reads_both(tiny_lm):  # whose server stops the engine in the end
    with (
        serving(tiny_lm, ["gpt-4o"]) as address,
        # Not strict: it asks for base64 by itself, and then its own validation takes nothing but numbers.
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        packed = client.embeddings.create(model="gpt-4o", input="hello")
        plain = client.embeddings.create(model="gpt-4o", input="hello", encoding_format="float")
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-7)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": {}}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [10**6]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": ["\udc00"]}, "input"),
        ({"dimensions": 8}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"task": "query"}, "task"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(ask, fields, param):
    response = ask(**fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_a_text_that_does_not_fit(ask):
    assert ask(input=["hello", "x" * 200]).json()["error"]["code"] == "context_length_exceeded"
