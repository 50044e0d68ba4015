"""The address of conversations: an answer at once, or as a stream of server-sent events."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from thermoscope.server.answers import Answers, client_of
from thermoscope.server.chat.request import engine_request
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.chat.wording import Wording
from thermoscope.server.service import Service
from thermoscope.server.stream import Stream, tagged


def install(app: FastAPI, service: Service) -> None:
    """Have the app answer conversations."""
    model = service.model

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, exchange: Request) -> Response:
        """Answer a conversation, at once or as a stream of server-sent events."""
        service.known(body.model)
        request = await run_in_threadpool(engine_request, body, model.tokenizer, service.vectors)
        client = client_of(exchange, body.safety_identifier or body.user)
        answers = service.answers(request, client=client, traced=body.with_trace)
        wording = Wording(body, request, model)
        if body.stream:
            return Stream(tagged(_chunks(body, answers, wording), answers.tag), answers)
        traces = await answers.traces(exchange)
        completion = await run_in_threadpool(wording.completion, traces)
        return JSONResponse(completion | answers.tag)


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
