"""Clients that go away, do not read, or do not finish what they ask; and what is left of them: nothing."""

import random
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests.server.conftest import serving
from tests.server.faults.conftest import reset
from tests.server.scripted import wait_until
from tests.server.test_serve import connect
from thermoscope.server import answers, connection

EXTENSION = {"ignore_eos": True, "steps": True, "trace": True}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def leave(server, rng):
    """Ask, and be gone: in the middle of the head, of the body, before the answer, or while it is read."""
    match rng.randrange(4):
        case 0:
            sock = server.socket()
            sock.sendall(HEAD[: rng.randrange(len(HEAD))])
            reset(sock)
        case 1:
            sock = server.socket()
            sock.sendall(HEAD + b'Content-Length: 500\r\n\r\n{"model": "tiny",')
            reset(sock)
        case 2:
            asked = server.ask(max_tokens=240, n=rng.choice([1, 3]), stream=rng.random() < 0.5)
            time.sleep(rng.random() * 0.01)
            reset(asked.sock)
            asked.close()
        case _:
            asked = server.ask(max_tokens=240, stream=True, thermoscope=EXTENSION)
            sock = asked.sock
            response = asked.getresponse()
            if response.status == 200:
                response.read(rng.randrange(1, 2000))
            reset(sock)
            response.close()
            asked.close()


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_who_goes_away_leaves_no_slot_busy(server, count):
    def go(seed):
        rng = random.Random(seed)
        for _ in range(count // 4):
            leave(server, rng)

    threads = [threading.Thread(target=go, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    wait_until(server.idle, 30)
    asked = server.ask(max_tokens=3)
    assert asked.getresponse().status == 200
    asked.close()
    assert "Traceback" not in server.log.read_text()


@pytest.mark.slow
def test_memory_is_flat_over_2000_requests(server, capsys):
    def ask(count):
        for at in range(count):
            asked = server.ask(max_tokens=16, stream=at % 2 == 0, n=1 + at % 3)
            asked.getresponse().read()
            asked.close()
            if at % 8 == 0:
                leave(server, random.Random(at))
        wait_until(server.idle, 30)

    ask(500)  # what is allocated once
    before = server.megabytes()
    ask(2000)
    grown = server.megabytes() - before
    with capsys.disabled():
        print(f"\n{grown:.1f} MiB more after 2,000 requests; {before:.0f} before")
    assert grown <= 20


@pytest.mark.slow
def test_memory_of_traces_is_bounded(server, capsys):
    """256 traces are kept; 2,000 more leave no more than those."""

    def ask(count):
        for _ in range(count):
            asked = server.ask(max_tokens=32, thermoscope=EXTENSION)
            asked.getresponse().read()
            asked.close()

    ask(300)
    before = server.megabytes()
    ask(2000)
    grown = server.megabytes() - before
    with capsys.disabled():
        print(f"\n{grown:.1f} MiB more after 2,000 traces of 32 tokens; {before:.0f} before")
    assert grown <= 20


def test_who_does_not_read_is_cut_and_stalls_nobody(model, monkeypatch):
    monkeypatch.setattr(answers, "UNREAD", 200)
    model.runner.script = ["x" * 200_000]
    with serving(model, ["gpt-4o"]) as address:
        deaf = connect(address, stream=True, thermoscope={"steps": True})
        wait_until(lambda: model.runner.tickets)
        assert model.runner.tickets[0].cancelled.wait(30)
        model.runner.script = ["Paris."]
        asked = connect(address)
        assert asked.getresponse().status == 200
        asked.close()
        deaf.close()


def test_who_takes_nothing_for_too_long_is_cut(model, monkeypatch):
    monkeypatch.setattr(connection, "READING", 0.3)
    monkeypatch.setattr(answers, "UNREAD", 10**9)
    model.runner.script = ["x" * 50_000]
    with serving(model, ["gpt-4o"]) as address:
        deaf = connect(address, stream=True, thermoscope={"steps": True})
        wait_until(lambda: model.runner.tickets)
        assert model.runner.tickets[0].cancelled.wait(30)
        deaf.close()


def ended(sock):
    """Whether the other side closes, in whatever way."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET /hea", HEAD, HEAD + b"Content-Length: 90\r\n\r\n{"])
def test_who_does_not_finish_asking_is_cut(model, monkeypatch, sent):
    monkeypatch.setattr(connection, "ASKING", 0.3)
    with serving(model, ["gpt-4o"]) as address:
        parts = urlsplit(address)
        slow = socket.create_connection((parts.hostname, parts.port), timeout=10)
        slow.sendall(sent)
        assert ended(slow)
        slow.close()
        asked = connect(address)
        assert asked.getresponse().status == 200
        asked.close()


def test_a_long_answer_is_not_cut_by_the_time_for_asking(model, monkeypatch):
    monkeypatch.setattr(connection, "ASKING", 0.2)
    model.runner.script, model.runner.pause = ["x" * 40], 0.02
    with serving(model, ["gpt-4o"]) as address:
        asked = connect(address, stream=True)
        assert asked.getresponse().read().endswith(b"[DONE]\n\n")
        asked.close()
