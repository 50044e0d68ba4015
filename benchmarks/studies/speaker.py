"""Answers to many requests, as many at once as the engine has slots, each as soon as it is done."""

import hashlib
import queue
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.studies.results import Key
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.request import Request
from thermoscope.engine.runner import Ticket
from thermoscope.engine.sequence import Delta
from thermoscope.engine.trace import Trace


def seed(setting: Any, passage: int) -> int:
    """63 bits that depend on these two and nothing else: what was drawn before changes nothing."""
    digest = hashlib.sha256(f"{setting}/{passage}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


def answers(lm: LanguageModel, asked: Mapping[Key, Request]) -> Iterator[tuple[Key, Trace]]:
    """Every request's answer, in the order in which they end; leaving the loop stops the others."""
    arrived: queue.SimpleQueue[tuple[Key, Delta | Exception]] = queue.SimpleQueue()
    waiting, under_way = iter(asked.items()), dict[Key, Ticket]()

    def submit() -> None:
        key, request = next(waiting, (None, None))
        if key is not None and request is not None:
            under_way[key] = lm.runner.submit(request, lambda item: arrived.put((key, item)))

    try:
        for _ in range(2 * lm.runner.slots):  # one waits for each that speaks, so that no slot is ever empty
            submit()
        while under_way:
            key, item = arrived.get()
            if isinstance(item, Exception):
                raise item
            if item.trace is not None:
                del under_way[key]
                submit()
                yield key, item.trace
    finally:
        for ticket in under_way.values():
            ticket.cancel()
