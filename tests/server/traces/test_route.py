"""Traces over HTTP: asked for in a request, read at their own address, and by the card that reads traces."""

import json

import pytest

from tests.server.scripted import wait_until
from tests.server.test_stream import events
from thermoscope.engine.trace import Trace


def kept(client, trace):
    wait_until(lambda: client.get(f"/v1/traces/{trace}").json()["status"] == "complete")
    return client.get(f"/v1/traces/{trace}").json()


def test_an_answer_says_where_its_trace_is(ask, client):
    reply = ask(n=2, thermoscope={"trace": True, "steps": True}).json()
    whole = kept(client, reply["thermoscope"]["trace"])
    assert [choice["steps"] for choice in whole["choices"]] == [
        choice["thermoscope"]["steps"] for choice in reply["choices"]
    ]
    assert [choice["text"] for choice in whole["choices"]] == ["Paris.", "Paris."]
    assert whole["object"] == "trace"


def test_a_stream_says_so_from_its_first_chunk_on(ask, client):
    *chunks, _ = events(ask(stream=True, thermoscope={"trace": True}))
    (trace,) = {chunk["thermoscope"]["trace"] for chunk in chunks}
    (choice,) = kept(client, trace)["choices"]
    assert choice["text"] == "Paris."


def test_a_response_says_so_too(client):
    body = {"model": "gpt-4o", "input": "hi", "thermoscope": {"trace": True}}
    reply = client.post("/v1/responses", json=body).json()
    (choice,) = kept(client, reply["thermoscope"]["trace"])["choices"]
    assert choice["text"] == "Paris."
    *_, last = client.post("/v1/responses", json=body | {"stream": True}).text.strip().split("\n\n")
    assert "trace_" in json.loads(last.partition("data: ")[2])["response"]["thermoscope"]["trace"]


def test_nothing_is_kept_of_who_did_not_ask(ask, client):
    for extension in ({}, {"thermoscope": {}}, {"thermoscope": {"trace": False, "steps": True}}):
        assert "trace" not in json.dumps(ask(**extension).json())
    assert client.get("/v1/traces").json() == {"object": "list", "data": []}


def test_one_answer_is_a_file_that_other_commands_read(ask, client, tmp_path):
    trace = ask(thermoscope={"trace": True}).json()["thermoscope"]["trace"]
    whole = kept(client, trace)
    path = tmp_path / "trace.json"
    path.write_bytes(client.get(f"/v1/traces/{trace}/0").content)
    assert Trace.load(path).to_dict() == whole["choices"][0]


def test_steps_are_recorded_for_a_trace_even_if_they_are_not_sent(ask, client):
    reply = ask(thermoscope={"trace": True, "steps": False}).json()
    (choice,) = kept(client, reply["thermoscope"]["trace"])["choices"]
    assert "entropy" in choice["steps"][0]
    assert "steps" not in json.dumps(reply)


def test_the_list_is_bounded(ask, client):
    ids = [ask(thermoscope={"trace": True}).json()["thermoscope"]["trace"] for _ in range(3)]
    kept(client, ids[2])
    assert [line["id"] for line in client.get("/v1/traces?limit=2").json()["data"]] == ids[:0:-1]
    assert [line["id"] for line in client.get(f"/v1/traces?after={ids[1]}").json()["data"]] == ids[:1]
    for limit in ("0", "101", "many"):
        response = client.get(f"/v1/traces?limit={limit}")
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "limit"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *(("/v1/traces/x", 404), ("/v1/traces/x/0", 404), ("/v1/traces/x/y", 400), ("/v1/traces/x/-1", 400)),
        *(("/v1/traces/%00", 404), ("/v1/traces/..%2f..%2fetc", 404), (f"/v1/traces/x/{2**70}", 400)),
    ],
)
def test_a_trace_that_is_not_there(client, path, status):
    response = client.get(path)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"
