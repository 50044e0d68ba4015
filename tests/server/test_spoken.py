"""What is sent on its way in, past the stream's task, is what the task would have sent, and in its place."""

import asyncio
import gc
import json
import re
import socket
import threading
import weakref
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.request import Request, Sampling
from thermoscope.server.answers import Answers
from thermoscope.server.connection import Connection
from thermoscope.server.metrics import Metrics
from thermoscope.server.post import Post
from thermoscope.server.stream import Mould, data
from thermoscope.server.watch import Watch

from . import scripted
from .conftest import serving
from .scripted import wait_until

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}], "stream": True}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
BODIES = [
    ("chat/completions", CHAT),
    ("chat/completions", CHAT | {"n": 3, "stream_options": {"include_usage": True}}),
    ("chat/completions", CHAT | {"logprobs": True, "top_logprobs": 2, "thermoscope": {"steps": True}}),
    ("chat/completions", CHAT | {"tools": [TOOL]}),
    ("chat/completions", CHAT | {"stop": ["ch –"]}),
    ("responses", {"model": "gpt-4o", "input": "hi", "stream": True}),
]


@pytest.fixture
def written(monkeypatch):
    """What went past the app."""
    bodies = []
    write = Connection.write

    def watched(self, body):
        bodies.append(body)
        write(self, body)

    monkeypatch.setattr(Connection, "write", watched)
    return bodies


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_stream_is_the_same_past_the_app(address, model, written, monkeypatch, path, body):
    model.runner.script, model.runner.pause = ["Zürich – 日本語 🙂 \n\"'\\"], 0.002
    past = plain(httpx.post(f"{address}/v1/{path}", json=body).text)
    assert len(written) > 10
    monkeypatch.setattr(Connection, "streaming", False)
    written.clear()
    assert plain(httpx.post(f"{address}/v1/{path}", json=body).text) == past
    assert written == []


@pytest.mark.parametrize("fields", [{"echo": True, "n": 2}, {"logprobs": 2, "thermoscope": {"steps": True}}])
def test_a_text_goes_on_the_same_past_the_app(tmp_path, written, monkeypatch, fields):
    model = tiny.ours(tiny.save(tiny.reference("llama"), tmp_path))
    body = {
        "model": "gpt-4o",
        "prompt": [[10, 20], [30]],
        "stream": True,
        "max_tokens": 60,
        "seed": 1,
    } | fields
    with (
        LanguageModel(lambda: Engine(model, slots=4, context=128)) as lm,
        serving(lm, ["gpt-4o"]) as address,
    ):
        texts = []
        for usable in (Connection.streaming, False):
            monkeypatch.setattr(Connection, "streaming", usable)
            texts.append(
                sorted(plain(httpx.post(f"{address}/v1/completions", json=body | fields).text).split("\n\n"))
            )
            assert bool(written) == bool(usable)
            written.clear()
    assert texts[0] == texts[1]


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_mould_gives_what_would_be_worded_anew(text):
    def piece(text):
        return {
            "id": "chatcmpl-1",
            "choices": [{"delta": {"content": text}, "logprobs": None}],
            "usage": None,
        }

    assert Mould(piece).event(text) == data(piece(text))


def plain(text):
    """Without ids and times."""
    return re.sub(r'"(id|item_id)":"[^"]*"|"(created|created_at|completed_at|ms)":[\d.]+', "", text)


def test_a_kept_trace_is_named_there_too(address, model, written):
    model.runner.pause = 0.002
    httpx.post(f"{address}/v1/chat/completions", json=CHAT | {"thermoscope": {"trace": True}})
    assert written
    assert len({json.loads(body[6:])["thermoscope"]["trace"] for body in written}) == 1


def test_before_http_1_1_nothing_comes_in_chunks(address, model, written):
    model.runner.pause = 0.002
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port), timeout=10) as client:
        client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    head, said = answer.split(b"\r\n\r\n", 1)
    assert b"chunked" not in head
    assert all(line.startswith(b"data: ") for line in said.split(b"\n\n")[:-1])
    assert said.endswith(b"data: [DONE]\n\n")
    assert written == []


def test_who_does_not_read_gets_all_of_it_later(address, model, written, monkeypatch):
    """First on its way in; then the connection is full, and the rest waits where it always has."""
    said = "".join(f"{number} " for number in range(800))
    model.runner.script, model.runner.pause = [said], 0.0
    full, pause = threading.Event(), Connection.pause_writing
    monkeypatch.setattr(Connection, "pause_writing", lambda self: (pause(self), full.set()))
    body = json.dumps(CHAT | {"thermoscope": {"steps": True}}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((urlsplit(address).hostname, urlsplit(address).port))
        client.settimeout(20)
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        head = head.replace("/ ", "/v1/chat/completions ", 1)
        client.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        assert full.wait(20)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"".join(re.findall(rb'"delta":\{"content":"(.)"\}', answer)).decode() == said
    assert len(written) < len(said)
    assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_nothing_holds_an_answer_that_is_over_nor_its_connection(address, model, monkeypatch):
    """No cycle: what the collector has to look for stays for as long as it does not look."""
    held = []
    for kind in (Answers, Connection):
        begin = kind.__init__

        def watched(self, *arguments, begin=begin, **named):
            begin(self, *arguments, **named)
            held.append(weakref.ref(self))

        monkeypatch.setattr(kind, "__init__", watched)
    model.runner.pause = 0.002
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert httpx.post(f"{address}/v1/chat/completions", json=CHAT).text.endswith("[DONE]\n\n")
            assert httpx.get(f"{address}/health").is_success
        assert len(held) == 9
        model.runner.tickets.clear()
        wait_until(lambda: not [each for each in held[:-1] if each() is not None])
    finally:
        gc.enable()


class Silent:
    """A runner that says what it is told to."""

    def submit(self, request, deliver):
        self.deliver = deliver
        return scripted.Ticket(request)


def spoken(number, finish=None):
    return scripted.Delta(0, str(number), scripted.Step(number, str(number), b"", 1.0), finish)


def test_only_what_nothing_waits_before_is_said_on_its_way_in(model):
    async def scene():
        runner = Silent()
        answers = Answers(
            runner,
            [Request(prompt=(1,), sampling=Sampling())],
            Watch(Metrics(model)),
            Post(asyncio.get_running_loop()),
        )
        said, iterated, willing = [], [], True

        def say(delta):
            if delta.text == "13":
                raise ValueError("unlucky")
            if willing:
                said.append(delta.text)
            return willing

        async def listen():
            async for delta in answers:
                iterated.append(delta.text)
                await asyncio.sleep(0.02)

        async def deliver(*deltas):
            for delta in deltas:
                runner.deliver(delta)
            await asyncio.sleep(0.005)

        answers.listen(say)
        await deliver(spoken(1))  # nobody iterates yet
        listener = asyncio.create_task(listen())
        await asyncio.sleep(0.005)
        await deliver(spoken(2), spoken(3))  # who iterates is busy with the first
        await asyncio.sleep(0.1)
        await deliver(spoken(4), spoken(5))
        willing = False
        await deliver(spoken(6), spoken(7))
        await asyncio.sleep(0.1)
        willing = True
        await deliver(spoken(8), spoken(13), spoken(9))
        with pytest.raises(ValueError, match="unlucky"):
            await listener
        assert said == ["4", "5", "8"]
        assert iterated == ["1", "2", "3", "6", "7"]

    asyncio.run(scene())


def test_ends_are_iterated_over(model):
    async def scene():
        runner = Silent()
        request = Request(prompt=(1,), sampling=Sampling())
        answers = Answers(runner, [request], Watch(Metrics(model)), Post(asyncio.get_running_loop()))
        answers.listen(lambda _: True)
        asyncio.get_running_loop().call_later(0.01, runner.deliver, spoken(1))
        asyncio.get_running_loop().call_later(0.02, runner.deliver, spoken(2, "stop"))
        assert [delta.text async for delta in answers] == ["2"]

    asyncio.run(scene())
