"""Answers that are given up, by a client that leaves or a server that stops: whoever is left must hear."""

import asyncio
import json
import socket
import threading

import httpx
import pytest
import uvicorn

from tests.server.conftest import up
from tests.server.upstream.test_route import CHAT
from tests.server.upstream.toy import ABILITIES
from thermoscope.server.options import Options
from thermoscope.server.serve import configuration
from thermoscope.server.upstream.serve import Server
from thermoscope.upstream.connection import Connection
from thermoscope.upstream.upstream import Upstream

PATIENCE = 30  # seconds; it takes some milliseconds where nobody else works


class Endless:
    """A server whose answers never end, and which notes that somebody left."""

    def __init__(self):
        self.asked, self.left = threading.Event(), threading.Event()

    async def __call__(self, _, receive, send):
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        self.asked.set()
        gone = asyncio.ensure_future(receive())
        if json.loads(body + message["body"]).get("stream"):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            piece = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n'
            while not gone.done():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0.01)
        assert (await gone)["type"] == "http.disconnect"
        self.left.set()


@pytest.fixture
def endless():
    return Endless()


@pytest.fixture
def server(endless):
    with up(uvicorn.Server(configuration(endless, grace=5))) as behind:
        yield Server(Upstream(Connection(behind), ABILITIES), Options(grace=0.2))


@pytest.fixture
def address(server):
    with up(server) as address:
        yield address


def test_a_stream_that_nobody_reads_on_is_closed(address, endless):
    url = f"{address}/v1/chat/completions"
    with httpx.stream("POST", url, json=CHAT | {"stream": True}, timeout=PATIENCE) as response:
        assert next(response.iter_lines()).startswith("data: ")
    assert endless.left.wait(PATIENCE)


def test_an_answer_that_nobody_waits_for_is_closed(address, endless):
    host, _, port = address.removeprefix("http://").partition(":")
    body = json.dumps(CHAT).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + body)
        assert endless.asked.wait(PATIENCE)
    assert endless.left.wait(PATIENCE)


def test_a_stream_that_is_cut_at_a_stop_ends_with_an_error(address, server):
    url = f"{address}/v1/chat/completions"
    with httpx.stream("POST", url, json=CHAT | {"stream": True}, timeout=PATIENCE) as response:
        lines = response.iter_lines()
        next(lines)
        server.should_exit = True
        *_, last = filter(None, lines)
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["code"] == "engine_stopped"


def test_an_answer_that_is_cut_at_a_stop_is_an_error(address, server, endless):
    def stop():
        assert endless.asked.wait(PATIENCE)
        server.should_exit = True

    threading.Thread(target=stop).start()
    response = httpx.post(f"{address}/v1/chat/completions", json=CHAT, timeout=PATIENCE)
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "engine_stopped"
