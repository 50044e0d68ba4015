"""A contender in a process of its own, and transformers as one."""

import os

import pytest

from tests import tiny
from thermoscope.bench.peers import Transformers, Worker
from thermoscope.errors import ThermoscopeError


class Echo:
    def __init__(self, word):
        if word == "bad":
            raise ValueError("no such word")
        self.word = word

    def say(self, *, times):
        return [self.word] * times, os.getpid()


def test_a_worker_answers_from_elsewhere():
    worker = Worker(Echo, "hello")
    said, process = worker.ask("say", times=2)
    worker.close()
    assert said == ["hello"] * 2
    assert process != os.getpid()


def test_what_fails_there_is_told_here():
    with pytest.raises(ThermoscopeError, match="Echo: no such word"):
        Worker(Echo, "bad")
    worker = Worker(Echo, "hello")
    with pytest.raises(ThermoscopeError, match="times"):
        worker.ask("say")
    worker.close()


def test_transformers_says_so_many_tokens(tmp_path):
    peer = Transformers(str(tiny.save(tiny.reference("llama"), tmp_path)), 1)
    speeds = peer.decode(prompts=[(5, 6, 7), (8, 9, 10)], tokens=12)
    assert min(speeds) > 0
    assert speeds.whole < speeds.decode * 1.5
    assert peer.decode(prompts=[(5, 6, 7)], tokens=1).prefill > 0
