"""Answers of an engine that nobody else uses."""

from collections.abc import Sequence

from thermoscope.engine.engine import Engine
from thermoscope.engine.request import Request
from thermoscope.engine.trace import Trace


def finish(engine: Engine, asked: Sequence[Request]) -> list[Trace]:
    """Every request's first answer, all of them under way at once."""
    generations = [engine.prepare(request) for request in asked]
    for generation in generations:
        engine.submit(generation)
    while engine.busy:
        engine.step()
    return [generation.sequences[0].trace for generation in generations]
