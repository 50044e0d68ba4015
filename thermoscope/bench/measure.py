"""Timing a loaded model through the runner that serves everybody: prefill, decoding alone and in a batch."""

import queue
import time
from collections.abc import Sequence
from typing import NamedTuple

from thermoscope.bench.profile import Watch
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.sequence import Delta

TEXT = """A refrigerator does not make cold; it carries heat away. Inside its walls runs a closed loop of
pipe that holds a fluid which boils far below the freezing point of water. Where the pipe passes behind the
shelves the fluid is under low pressure, so it boils there, and boiling takes heat: the milk and the lettuce
pay for it. A compressor, the part that hums, then draws off the vapour and presses it together until it is
hot, hotter than the kitchen. In the black coil at the back the vapour gives that heat to the room and
becomes a liquid again. A narrow valve lets the liquid through to the low side, and the circle begins anew.
Nothing is used up but the electricity that drives the pump. So the room grows warmer by what the food has
lost and by what the motor has taken from the wall, and leaving the door open will never cool a kitchen in
summer. The thermostat watches the air between the shelves and starts the compressor whenever it has grown
too warm. """


class Decoding(NamedTuple):
    """One run of several answers at once.

    - `seconds`: from the request to the last token.
    - `rate`: tokens a second, all answers together, while every answer was being decoded.
    - `step`: seconds by part of the mean step of that time.
    - `tokens`: what each said.
    """

    seconds: float
    rate: float
    step: dict[str, float]
    tokens: list[list[int]]


def prompt(lm: LanguageModel, length: int, *, client: int = 0) -> tuple[int, ...]:
    """So many tokens of English; each client's begin elsewhere in the text."""
    start = TEXT.find(" ", client * 97 % len(TEXT) // 2) if client else 0
    ids: tuple[int, ...] = ()
    text = TEXT[start:].lstrip()
    while len(ids) < length:
        ids = lm.tokenizer.prompt(text)
        text += TEXT * max(1, length // 200)
    return ids[:length]


def room(depth: int, tokens: int) -> int:
    """The context that `decode` at this depth needs."""
    return max(depth, 1) + tokens


def prefill(lm: LanguageModel, prompt: Sequence[int]) -> float:
    """Tokens of a prompt a second, the first token of the answer drawn."""
    return len(prompt) / decode(lm, [prompt], 1).seconds


def decode(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    *,
    record: bool = True,
    even: bool = False,
) -> Decoding:
    """Greedy answers to all prompts at once, `tokens` each, past the model's own end. Nothing is taken from
    what earlier prompts left, but with `even`, where these prompts are read beforehand, so that all answers
    are decoded from the first step to the last.
    """
    if even:
        decode(lm, prompts, 1)
    arrived: queue.SimpleQueue[tuple[float, int, Delta | Exception]] = queue.SimpleQueue()
    tickets, times, said = [], [[] for _ in prompts], [[] for _ in prompts]  # type: ignore[var-annotated]
    with Watch(lm.runner.engine) as watch:
        since = time.perf_counter()
        try:
            for client, each in enumerate(prompts):
                sampling = Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True)
                request = Request(prompt=tuple(each), sampling=sampling, record=record, fresh=not even)

                def deliver(item: Delta | Exception, client: int = client) -> None:
                    arrived.put((time.perf_counter(), client, item))

                tickets.append(lm.runner.submit(request, deliver))
            for _ in range(tokens * len(prompts)):
                now, client, item = arrived.get()
                if isinstance(item, Exception):
                    raise item
                times[client].append(now)
                said[client].append(item.step.token)
        finally:  # Ctrl-C, too, leaves an engine that is free
            if any(len(each) < tokens for each in said):
                for ticket in tickets:
                    ticket.cancel()
    first, last = max(each[0] for each in times), min(each[-1] for each in times)
    within = sum(first < now <= last for each in times for now in each)
    seconds = max(each[-1] for each in times) - since
    rate = within / (last - first) if within else 0.0  # one token each: nothing was decoded
    return Decoding(seconds, rate, watch.step(first, last), said)
