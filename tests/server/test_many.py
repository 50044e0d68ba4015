"""Many clients at one engine, behind a real port: who gets in, who waits too long or goes, how it ends."""

import contextlib
import http.client
import json
import signal
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.request import Request, Sampling
from thermoscope.server.options import Options
from thermoscope.server.serve import Server

from .conftest import up
from .scripted import wait_until

ENDLESS = {"max_tokens": 20_000, "thermoscope": {"ignore_eos": True}, "logit_bias": {"0": -100, "1": -100}}
CONTEXT = 20_400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tiny.reference("llama"), tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture
def lm(folder):
    with LanguageModel(lambda: Engine(tiny.ours(folder), slots=2, context=CONTEXT)) as made:
        yield made


@pytest.fixture
def address(lm):
    with up(Server(lm, Options(aliases=["m"]))) as address:
        yield address


class Asked:
    """A request on a connection of its own, sent."""

    def __init__(self, address, prompt="hi", **fields):
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}]} | fields
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
        self.connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"}
        )

    def answer(self):
        with contextlib.closing(self.connection), self.connection.getresponse() as response:
            return response.status, json.loads(response.read()), response.headers

    def events(self):
        """What a stream says until it ends."""
        with contextlib.closing(self.connection), self.connection.getresponse() as response:
            frames = response.read().decode().split("\n\n")
        assert frames.pop() == ""
        return [json.loads(frame[6:]) if frame != "data: [DONE]" else None for frame in frames]

    def go(self):
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()


def counts(lm):
    return lm.runner.running, lm.runner.waiting


def test_past_the_queue_a_request_is_told_when_to_come_back(lm, address):
    lm.runner.queue = 1
    speaking = [Asked(address, **ENDLESS, stream=True) for _ in range(2)]
    wait_until(lambda: counts(lm) == (2, 0))
    waits = Asked(address, max_tokens=1)
    wait_until(lambda: counts(lm) == (2, 1))
    for stream in (False, True):
        status, body, headers = Asked(address, stream=stream).answer()
        assert (status, body["error"]["code"], body["error"]["type"]) == (429, "too_busy", "rate_limit_error")
        assert "1 answers wait already" in body["error"]["message"]
        assert int(headers["retry-after"]) >= 1
    speaking[0].go()
    assert waits.answer()[0] == 200
    speaking[1].go()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stage", ["queued", "reading", "speaking"])
def test_a_client_that_goes_away_leaves_nothing_behind(lm, address, stage, stream):
    others = [Asked(address, **ENDLESS, stream=True) for _ in range(2 if stage == "queued" else 1)]
    wait_until(lambda: counts(lm) == (len(others), 0))
    before = counts(lm)
    gone = Asked(
        address, "x" * 20_000 if stage == "reading" else "y", **ENDLESS | {"max_tokens": 300}, stream=stream
    )
    wait_until(lambda: lm.runner.engine.scheduler.waiting if stage == "queued" else counts(lm) == (2, 0))
    (here,) = (each for each in list(lm.runner._open) if each.trace.sampling["max_tokens"] == 300)
    if stage != "queued":
        wait_until(lambda: bool(here.trace.steps) == (stage == "speaking"))
    gone.go()
    wait_until(lambda: counts(lm) == before)
    assert here not in lm.runner._open
    assert len(here.trace.steps) < 300
    for other in others:
        other.go()
    wait_until(lambda: counts(lm) == (0, 0))


def test_cancelling_frees_the_slot_in_one_step(lm):
    """Whoever is cancelled is not in the batch of the step after next: one may be under way."""
    engine, batches = lm.runner.engine, []
    tickets = [lm.runner.submit(engine_request(), [].append) for _ in range(2)]
    wait_until(lambda: lm.runner.running == 2)
    following = engine.scheduler.next
    engine.scheduler.next = lambda: batches.append(following()) or batches[-1]
    wait_until(lambda: batches)
    gone = tickets[0].generation.sequences[0]
    tickets[0].cancel()
    seen = len(batches)
    wait_until(lambda: len(batches) > seen + 2)
    assert not any(gone is each for batch in batches[seen + 1 :] for each, _ in batch)
    tickets[1].cancel()


def engine_request():
    return Request(prompt=(5, 6), sampling=Sampling(max_tokens=5_000, ignore_eos=True))


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_takes_longer_than_its_time_is_cut_with_an_error(lm, address, stream):
    asked = ENDLESS | {"thermoscope": {"timeout": 0.5, "ignore_eos": True}}
    began = time.monotonic()
    cut = Asked(address, **asked, stream=stream)
    if stream:
        *said, last = cut.events()
        assert "".join(each["choices"][0]["delta"].get("content", "") for each in said)
    else:
        status, last, headers = cut.answer()
        assert (status, headers["x-should-retry"]) == (408, "false")
    assert last["error"]["code"] == "timeout"
    assert last["error"]["type"] == "timeout_error"
    assert "in the 0.5 seconds" in last["error"]["message"]
    assert 0.4 < time.monotonic() - began < 10
    assert counts(lm) == (0, 0)


def test_the_servers_own_limit_holds_for_who_waits_and_cannot_be_lifted(lm, address):
    speaking = [Asked(address, **ENDLESS, stream=True) for _ in range(2)]
    wait_until(lambda: counts(lm) == (2, 0))
    status, body, _ = Asked(address, thermoscope={"timeout": 0.2}).answer()
    assert (status, body["error"]["code"]) == (408, "timeout")
    assert "got 0 tokens in the 0.2 seconds" in body["error"]["message"]
    lm.runner.timeout = 0.3
    speaking.append(
        Asked(address, **ENDLESS | {"thermoscope": {"timeout": 100, "ignore_eos": True}}, stream=True)
    )
    for each in speaking:
        assert each.events()[-1]["error"]["code"] == "timeout"


def test_at_a_stop_those_who_were_there_get_their_answers_and_newcomers_are_told(lm):
    go, held = threading.Event(), threading.Event()
    with up(server := Server(lm, Options(aliases=["m"], grace=20))) as address:
        idle = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
        idle.connect()
        hold = threading.Thread(target=lm.runner.call, args=(lambda: (held.set(), go.wait(20)),))
        hold.start()
        held.wait(20)
        streamed = Asked(address, **ENDLESS | {"max_tokens": 5}, stream=True)
        plain = [Asked(address, max_tokens=3) for _ in range(2)]
        wait_until(lambda: lm.runner.waiting == 3)
        server.handle_exit(signal.SIGTERM, None)
        wait_until(lambda: lm.runner.closed)
        idle.request("GET", "/health")
        with contextlib.closing(idle), idle.getresponse() as health:
            assert (health.status, json.loads(health.read())["status"]) == (503, "stopping")
        status, body, _ = Asked(address).answer()
        assert (status, body["error"]["code"]) == (503, "engine_stopped")
        go.set()
        *_, last, done = streamed.events()
        assert (last["choices"][0]["finish_reason"], done) == ("length", None)
        assert [each.answer()[0] for each in plain] == [200, 200]
    hold.join(20)


@pytest.mark.parametrize("again", [False, True])
def test_past_the_grace_or_at_a_second_ctrl_c_answers_are_cut_and_hear_of_it(lm, again):
    with up(server := Server(lm, Options(aliases=["m"], grace=60 if again else 0.3))) as address:
        speaks, plain = Asked(address, **ENDLESS, stream=True), Asked(address, **ENDLESS)
        waits = Asked(address, **ENDLESS)
        wait_until(lambda: counts(lm) == (2, 1))
        server.handle_exit(signal.SIGINT, None)
        wait_until(lambda: lm.runner.closed)
        assert counts(lm) == (2, 1)
        if again:
            server.handle_exit(signal.SIGINT, None)
        *_, last = speaks.events()
        assert last["error"]["code"] == "engine_stopped"
        for each in (plain, waits):
            status, body, _ = each.answer()
            assert (status, body["error"]["code"]) == (503, "engine_stopped")
