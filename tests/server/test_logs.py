"""A line for each request, and nothing in it that is nobody's business."""

import json
import logging

import pytest
from starlette.testclient import TestClient

from thermoscope.server import logs
from thermoscope.server.app import create_app
from thermoscope.server.options import Options

from . import scripted

ASK = {"model": "Scripted-1B", "messages": [{"role": "user", "content": "PROMPT"}]}


@pytest.fixture
def log(capsys):
    """Asks a server whose log has a form, and gives the lines that it wrote."""
    names = ("thermoscope", "uvicorn")
    before = [(logging.getLogger(name), logging.getLogger(name).__dict__.copy()) for name in names]

    def log(form, ask, **script):
        logs.start(form)
        model = scripted.model(**script)
        app = create_app(model, Options(keys=["KEY"]))
        with TestClient(
            app, headers={"authorization": "Bearer KEY"}, raise_server_exceptions=False
        ) as client:
            ask(client)
        return capsys.readouterr().err

    yield log
    for logger, state in before:
        logger.handlers, logger.propagate = state["handlers"], state["propagate"]
        logger.setLevel(state["level"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_line_as_json(log, stream):
    def ask(client):
        client.post(
            "/v1/chat/completions?q=QUERY", json=ASK | {"stream": stream}, headers={"x-request-id": "r-1"}
        )

    (line,) = log("json", ask).splitlines()
    entry = json.loads(line)
    assert entry.pop("ms") >= 0
    assert entry.pop("time").endswith("Z")
    assert entry == {
        **{"level": "info", "request_id": "r-1", "method": "POST", "path": "/v1/chat/completions"},
        **{"client": "testclient", "status": 200, "prompt_tokens": 7, "completion_tokens": 7},
    }


def test_a_line_for_people(log):
    line = log("text", lambda client: client.post("/v1/chat/completions", json=ASK))
    stamp, level, rest = line.strip().split(" ", 2)
    assert (stamp[-1], level) == ("Z", "info")
    assert rest.startswith("testclient POST /v1/chat/completions 200 7+7 tokens ")
    assert rest.split()[-1].startswith("req_")


def test_an_answer_that_was_cut_says_so(log):
    script = ["Par", ValueError("broken")]
    out = log("json", lambda client: client.post("/v1/chat/completions", json=ASK), script=script)
    trouble, entry = map(json.loads, out.splitlines())
    assert "ValueError: broken" in trouble["exception"]
    assert (entry["status"], entry["cut"], entry["completion_tokens"]) == (500, True, 3)


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_holds_a_secret(log, form):
    def ask(client):
        for path in ("/v1/chat/completions", "/v1/chat/completions?key=QUERY", "/v1/responses"):
            client.post(path, json=ASK)
            client.post(path, json=ASK | {"stop": ["PROMPT"] * 9, "PROMPT": "PROMPT"})
            client.post(path, json=ASK, headers={"authorization": "Bearer WRONG"})
            client.post(path, content=b'{"PROMPT', headers={"content-type": "application/json"})
        client.get("/v1/models/x", headers={"x-api-key": "HEADER", "cookie": "HEADER"})

    out = log(form, ask)
    assert out.count("\n") == 13
    assert not any(secret in out for secret in ("PROMPT", "QUERY", "KEY", "WRONG", "HEADER", "Paris"))


def test_a_path_begins_no_line_of_its_own(log):
    out = log("text", lambda client: client.get("/v1/models/x%0A2026%20info%20forged%1B[2J"))
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert r"\n2026" in out


def test_probes_are_quiet_while_they_succeed(log):
    def ask(client):
        for path in ("/health", "/metrics", "/web/app.js", "/web/no.js"):
            client.get(path)

    (line,) = log("text", ask).splitlines()
    assert "/web/no.js 404" in line


@pytest.mark.parametrize(
    ("given", "taken"),
    [("abc-1.2_3", True), ("x" * 128, True), ("x" * 129, False), ("", False), ("a b", False), ('a"b', False)],
)
def test_an_id_that_the_client_gave(client, given, taken):
    shown = client.get("/health", headers={"x-request-id": given}).headers["x-request-id"]
    assert shown == given if taken else shown.startswith("req_")
