"""An answer while it is spoken, as server-sent events."""

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from fastapi.sse import EventSourceResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from thermoscope.server.envelope import joined
from thermoscope.server.errors import describe

Pieces = AsyncIterator[dict[str, Any]]
# How an address that may stream describes its answers.
EITHER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The whole answer, or a stream of events.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies must pass events on at once


async def unnamed(chunks: Pieces) -> AsyncIterator[bytes]:
    """Events as the completions have them: data alone; last an error, or [DONE] after a good end."""
    try:
        async for chunk in chunks:
            yield _event(chunk)
    except Exception as error:  # the status is sent already: what went wrong travels as an event
        _, problem = describe(error)
        yield _event(problem)
    else:
        yield b"data: [DONE]\n\n"


async def named(events: Pieces) -> AsyncIterator[bytes]:
    """Events that are named for their type, and say themselves how it ended."""
    async for event in events:
        yield b"event: %b\n%b" % (event["type"].encode(), _event(event))


class Answer(Protocol):
    """What is under way somewhere, and can be ended."""

    def cancel(self) -> None:
        """End it; without effect once it is complete."""


def tagged(pieces: Pieces, tag: dict[str, Any]) -> Pieces:
    """Pieces that each say something beside, if there is something: under which id a trace is kept."""

    async def each() -> Pieces:
        async for piece in pieces:
            yield joined(piece, tag)

    return each() if tag else pieces


class Stream(EventSourceResponse):
    """The response to a request with stream = true. A client that goes away frees its slots.

    `pieces`: what is said. `frames`: how that goes over the wire, as `unnamed` or `named` events.
    """

    def __init__(
        self, pieces: Pieces, answers: Answer, frames: Callable[[Pieces], AsyncIterator[bytes]] = unnamed
    ) -> None:
        super().__init__(frames(pieces), headers=HEADERS)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.cancel()


def _event(said: dict[str, Any]) -> bytes:
    """Data alone. JSON has no line breaks, and no infinities: null stands for what is no number."""
    return b"data: %b\n\n" % to_json(said, inf_nan_mode="null")
