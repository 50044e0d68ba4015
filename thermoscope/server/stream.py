"""An answer while it is spoken, as server-sent events."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from fastapi.sse import EventSourceResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from thermoscope.server.envelope import joined
from thermoscope.server.errors import describe

if TYPE_CHECKING:
    from thermoscope.engine.engine import Delta
    from thermoscope.server.answers import Answers
    from thermoscope.server.connection import Connection

Piece = dict[str, Any]
Pieces = AsyncIterator[Piece]
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
            yield data(chunk)
    except Exception as error:  # the status is sent already: what went wrong travels as an event
        _, problem = describe(error)
        yield data(problem)
    else:
        yield b"data: [DONE]\n\n"


async def named(events: Pieces) -> AsyncIterator[bytes]:
    """Events that are named for their type, and say themselves how it ended."""
    async for event in events:
        yield named_data(event)


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


def events(pieces: Iterable[Piece], tag: dict[str, Any]) -> Iterator[bytes]:
    """Each of them as `unnamed` sends it, `tagged`."""
    return (data(joined(piece, tag)) for piece in pieces)


class Mould:
    """Events that differ in one text alone: worded once, and filled in from then on.

    `piece`: what is said with a text in its place.
    """

    def __init__(self, piece: Callable[[str], Piece]) -> None:
        mark = secrets.token_hex(8)
        self._before, self._after = data(piece(mark)).split(mark.encode())

    def event(self, text: str) -> bytes:
        """As `data` makes it of the piece with this text."""
        return b"%b%b%b" % (self._before, to_json(text)[1:-1], self._after)


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


class Spoken(Stream):
    """The stream of what this engine speaks: a delta that nothing waits before is sent on its way in.

    To wake the stream's task for it, and to go out through the app, would cost the event loop as much again,
    while the engine's next step wants both cores (docs/decisions/event-loop.md).

    `events`: those of one delta, as `pieces` would have them said.
    """

    def __init__(
        self,
        pieces: Pieces,
        answers: "Answers",
        events: "Callable[[Delta], Iterable[bytes]]",
        frames: Callable[[Pieces], AsyncIterator[bytes]] = unnamed,
    ) -> None:
        super().__init__(pieces, answers, frames)
        self._listen = answers.listen
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        connection: Connection | None = scope.get("state", {}).get("connection")
        if connection is not None:  # which a test, or another server around the app, has not
            self._listen(partial(self._say, connection))
        await super().__call__(scope, receive, send)

    def _say(self, connection: "Connection", delta: "Delta") -> bool:
        if not connection.streaming:
            return False
        if body := b"".join(self._events(delta)):
            connection.write(body)
        return True


def data(said: Piece) -> bytes:
    """An event of data alone. JSON has no line breaks, nor infinities: null stands for what is no number."""
    return b"data: %b\n\n" % to_json(said, inf_nan_mode="null")


def named_data(event: Piece) -> bytes:
    """An event that is named for its type."""
    return b"event: %b\n%b" % (event["type"].encode(), data(event))
