"""The address of conversations: an answer at once, or as a stream of server-sent events."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from thermoscope.server.answers import Answers, client_of
from thermoscope.server.beside import Beside, beside
from thermoscope.server.chat.request import engine_request
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.chat.wording import Wording
from thermoscope.server.envelope import joined
from thermoscope.server.service import Service
from thermoscope.server.stream import EITHER, Spoken, tagged


def install(app: FastAPI, service: Service) -> None:
    """Have the app answer conversations."""
    model = service.model

    @app.post("/v1/chat/completions", response_model=None, responses=EITHER)
    async def chat_completions(body: ChatRequest, exchange: Request) -> Response:
        """Answer a conversation, at once or as a stream of server-sent events."""
        service.known(body.model)
        request = await run_in_threadpool(engine_request, body, model.tokenizer, service.vectors)
        await service.compiled(request)
        look = await beside(service, body, request)
        client = client_of(exchange, body.safety_identifier or body.user)
        answers = service.answers(request, client=client, traced=body.with_trace)
        wording = Wording(body, request, model)
        if body.stream:
            pieces = tagged(_chunks(body, answers, wording, look), answers.tag)
            return Spoken(pieces, answers, lambda delta: wording.events(delta, answers.tag))
        traces = await answers.traces(exchange)
        completion = await run_in_threadpool(wording.completion, traces)
        return JSONResponse(joined(completion | wording.beside(await look()), answers.tag))


async def _chunks(
    body: ChatRequest, answers: Answers, wording: Wording, look: Beside
) -> AsyncIterator[dict[str, Any]]:
    for piece in wording.begun():
        yield piece
    traces = []
    async for delta in answers:
        for piece in wording.spoken(delta):
            yield piece
        if delta.trace is not None:
            traces.append(delta.trace)
    if seen := await look():
        yield wording.piece(wording.beside(seen))
    if body.with_usage:
        yield wording.usage_chunk(traces)
