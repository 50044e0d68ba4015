"""An answer while it is spoken, as server-sent events."""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.types import Receive, Scope, Send

from thermoscope.server.answers import Answers
from thermoscope.server.chat import Wording
from thermoscope.server.errors import describe
from thermoscope.server.schemas import ChatRequest

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies must pass events on at once


class Stream(EventSourceResponse):
    """The response to a request with stream = true. A client that goes away frees its slots."""

    def __init__(self, body: ChatRequest, answers: Answers, wording: Wording) -> None:
        super().__init__(_frames(body, answers, wording), headers=HEADERS)
        self._answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answers.cancel()


async def _frames(body: ChatRequest, answers: Answers, wording: Wording) -> AsyncIterator[bytes]:
    try:
        async for chunk in _chunks(body, answers, wording):
            yield _frame(chunk)
    except Exception as error:  # the status is sent already: what went wrong travels as an event
        _, problem = describe(error)
        yield _frame(problem)
    else:
        yield format_sse_event(data_str="[DONE]")


async def _chunks(body: ChatRequest, answers: Answers, wording: Wording) -> AsyncIterator[dict[str, Any]]:
    for index in range(body.n or 1):
        yield wording.chunk(index, {"role": "assistant", "content": ""})
    traces = []
    async for delta in answers:
        if delta.text or (delta.step and (body.logprobs or body.with_steps)):
            yield wording.chunk(delta.choice, {"content": delta.text}, step=delta.step)
        if delta.finish_reason is not None:
            yield wording.chunk(delta.choice, {}, finish_reason=delta.finish_reason)
        if delta.trace is not None:
            traces.append(delta.trace)
    if body.with_usage:
        yield wording.usage_chunk(traces)


def _frame(payload: dict[str, Any]) -> bytes:
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return format_sse_event(data_str=text)
