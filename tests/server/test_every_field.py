"""Every field that OpenAI's client knows is honoured or refused by name; the documented table says which."""

import re
from pathlib import Path
from typing import get_type_hints

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.completions.schema import CompletionRequest
from thermoscope.server.embeddings import EmbeddingsRequest
from thermoscope.server.responses.schema import ResponsesRequest

DOCS = Path(__file__).parents[2] / "docs" / "server.md"
ADDRESSES = {
    "/v1/chat/completions": (ChatRequest, chat_create_params.CompletionCreateParamsStreaming),
    "/v1/completions": (CompletionRequest, completion_create_params.CompletionCreateParamsStreaming),
    "/v1/embeddings": (EmbeddingsRequest, embedding_create_params.EmbeddingCreateParams),
    "/v1/responses": (ResponsesRequest, response_create_params.ResponseCreateParamsStreaming),
}


def table(address):
    """The documented rows of an address: field -> what happens to it here."""
    section = DOCS.read_text().split(f"### `{address}`, field by field\n")[1].split("\n#")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {name: row[1].strip() for row in rows for name in re.findall(r"`([a-z_]+)`", row[0])}


EVERY = [(address, field) for address, (_, theirs) in ADDRESSES.items() for field in get_type_hints(theirs)]


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_table_has_every_field_once(address):
    ours, theirs = ADDRESSES[address]
    assert set(table(address)) == set(ours.model_fields) | set(get_type_hints(theirs))


@pytest.mark.parametrize(("address", "field"), EVERY)
def test_a_field_is_declared_or_refused_by_name(client, address, field):
    if table(address)[field].startswith("refused"):
        response = ask(client, address, **{field: {"unheard": "of"}})
        assert response.status_code == 400
        assert re.match(rf"{field}\b", response.json()["error"]["param"])
    else:
        assert field in ADDRESSES[address][0].model_fields


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_field_that_nobody_knows_is_refused_by_name(client, address):
    response = ask(client, address, unheard_of=1)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "unheard_of")


def ask(client, address, **fields):
    said = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in address else {}
    needed = said or {"prompt" if address == "/v1/completions" else "input": "hi"}
    return client.post(address, json={"model": "gpt-4o", **needed, **fields})
