"""A model that says what a test tells it to, through the engine's own signatures.

Tokens are bytes, so any text can be scripted, characters of several bytes included; token 256 ends an
answer. Deltas come from a thread, as the engine's do.
"""

import codecs
import contextlib
import math
import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

from thermoscope.engine.trace import Alternative, Record, Step, Trace
from thermoscope.errors import EngineStopped, InvalidRequest
from thermoscope.models.calls import HERMES

END = 256


@dataclass
class Delta:
    choice: int
    text: str
    step: Step | None = None
    finish_reason: str | None = None
    trace: Trace | None = None
    entropy: float = 1.0  # as `record` has it
    kept: int = 1


class Tokenizer:
    vocab_size = 257
    end_ids = frozenset({END})

    call_format = HERMES
    call_marks: ClassVar = {}

    def __init__(self):
        self.seen = []  # messages and tools of every conversation

    def chat(self, messages, tools=()):
        self.seen.append((list(messages), list(tools)))
        for message in messages:
            assert set(message) <= {"role", "content", "tool_calls", "tool_call_id", "name"}
            if "<|refused|>" in message["content"]:
                raise InvalidRequest("messages: the template refuses that.", param="messages")
        return (*"".join(message["content"] for message in messages).encode(), END)

    def bytes_of(self, token):
        return b"" if token == END else bytes([token])

    def piece(self, token):
        return "<end>" if token == END else bytes([token]).decode(errors="replace")

    def is_control(self, token):
        return token == END


class Ticket:
    def __init__(self, request):
        self.cancelled = threading.Event()
        self.traces = [trace(request, choice) for choice in range(request.sampling.n)]

    def cancel(self):
        self.cancelled.set()


@dataclass
class Runner:
    """`script`: what to say; an exception in it is delivered. `pause`: seconds between two tokens."""

    script: list = field(default_factory=lambda: ["Paris."])
    pause: float = 0.0
    refuse: Exception | None = None
    slots: int = 8
    running: int = 0
    waiting: int = 0
    cache_use: float = 0.25
    requests: list = field(default_factory=list)
    tickets: list = field(default_factory=list)
    compiled: list = field(default_factory=list)
    threads: list = field(default_factory=list)
    stopped: bool = False
    closed: bool = False
    queue: int | None = None
    timeout: float = math.inf

    @property
    def idle(self):
        return self.stopped or not any(thread.is_alive() for thread in self.threads)

    def compile(self, grammar):
        self.compiled.append(grammar)

    def submit(self, request, deliver):
        if self.refuse is not None:
            raise self.refuse
        if self.closed:
            raise EngineStopped("the engine is being stopped")
        self.requests.append(request)
        ticket = Ticket(request)
        self.tickets.append(ticket)
        self.threads.append(
            threading.Thread(target=self._speak, args=(request, deliver, ticket), daemon=True)
        )
        self.threads[-1].start()
        return ticket

    def close(self):
        self.closed = True

    def stop(self):
        self.stopped = True

    def _speak(self, request, deliver, ticket):
        answers = [self._answer(request, choice, ticket) for choice in range(request.sampling.n)]
        while answers:
            for answer in list(answers):
                delta = EngineStopped("the engine was stopped") if self.stopped else next(answer)
                if ticket.cancelled.wait(self.pause):
                    return
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                    deliver(delta)
                if isinstance(delta, Exception):
                    return
                if delta.finish_reason:
                    answers.remove(answer)

    def _answer(self, request, choice, ticket):
        trace = ticket.traces[choice]
        limit = request.sampling.max_tokens or math.inf
        decode = codecs.getincrementaldecoder("utf-8")().decode
        for piece in self.script:
            if isinstance(piece, Exception):
                yield piece
            for token in piece.encode():
                text = decode(bytes([token]))
                step = Step(token, text, bytes([token]), 1.0, record(token) if request.record else None)
                trace.steps.append(step)
                trace.text += text
                if len(trace.steps) >= limit:
                    trace.finish_reason = "length"
                    yield Delta(choice, text, step, "length", trace)
                    return
                yield Delta(choice, text, step)
        step = Step(END, "", b"", 1.0, record(END) if request.record else None)
        trace.steps.append(step)
        trace.finish_reason = "stop"
        yield Delta(choice, "", step, "stop", trace)


def trace(request, choice):
    return Trace(model="fake", precision="fp32", prompt=request.prompt, sampling={}, choice=choice)


def record(token):
    """A distribution that gives half to the chosen token, and to 20 alternatives less and less."""
    others = tuple(
        Alternative((token + rank) % 256, "?", -math.log(2) * (rank + 1), -math.inf if rank else 0.0)
        for rank in range(20)
    )
    return Record(-math.log(2), 0.0, 1.0, 12.5, 1, 0.5, others)


def model(**script):
    """A scripted LanguageModel."""
    return SimpleNamespace(
        name="Scripted-1B", precision="fp32", context=512, tokenizer=Tokenizer(), runner=Runner(**script)
    )


def counts(usage):
    """An answer's tokens: read, drawn, together."""
    return usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]


def wait_until(true, seconds=5.0):
    """Poll until `true()`, or fail."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)
