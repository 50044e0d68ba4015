"""An answer while it is spoken, as server-sent events."""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from thermoscope.server.answers import Answers
from thermoscope.server.errors import describe

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies must pass events on at once


class Stream(EventSourceResponse):
    """The response to a request with stream = true. A client that goes away frees its slots.

    `chunks`: what is said, piece by piece; an error ends it, as an event of its own.
    """

    def __init__(self, chunks: AsyncIterator[dict[str, Any]], answers: Answers) -> None:
        super().__init__(_frames(chunks), headers=HEADERS)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.cancel()


async def _frames(chunks: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield _frame(chunk)
    except Exception as error:  # the status is sent already: what went wrong travels as an event
        _, problem = describe(error)
        yield _frame(problem)
    else:
        yield format_sse_event(data_str="[DONE]")


def _frame(payload: dict[str, Any]) -> bytes:
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return format_sse_event(data_str=text)
