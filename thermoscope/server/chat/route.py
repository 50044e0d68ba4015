"""The address of conversations: an answer at once, or as a stream of server-sent events."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from thermoscope.server.answers import Answers
from thermoscope.server.chat.request import check_sizes, engine_request
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.chat.wording import Wording
from thermoscope.server.logprobs import scored
from thermoscope.server.service import Service
from thermoscope.server.stream import Stream

if TYPE_CHECKING:
    from thermoscope.engine.scores import Score


def install(app: FastAPI, service: Service) -> None:
    """Have the app answer conversations."""
    model = service.model

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: ChatRequest, exchange: Request) -> Response:
        """Answer a conversation, at once or as a stream of server-sent events."""
        service.known(body.model)
        asked = await run_in_threadpool(engine_request, body, model.tokenizer, service.vectors)
        request = service.bounded(asked)
        check_sizes(body, request, model.context)
        answers = Answers(model.runner, request)
        wording = Wording(body, request, model)

        async def scores() -> "list[Score] | None":
            best = body.prompt_alternatives
            return None if best is None else await scored(service.aside, request, best)

        if body.stream:
            return Stream(_chunks(body, answers, wording, scores), answers)
        traces = await answers.traces(exchange)
        return JSONResponse(await run_in_threadpool(wording.completion, traces, await scores()))


async def _chunks(
    body: ChatRequest,
    answers: Answers,
    wording: Wording,
    scores: "Callable[[], Awaitable[list[Score] | None]]",
) -> AsyncIterator[dict[str, Any]]:
    for index in range(body.n or 1):
        yield wording.chunk(index, {"role": "assistant", "content": ""})
    completion_tokens = 0
    async for delta in answers:
        completion_tokens += delta.step is not None
        if delta.text or (delta.step and (body.logprobs or body.with_steps)):
            yield wording.chunk(delta.choice, {"content": delta.text}, step=delta.step)
        if delta.finish_reason is not None:
            yield wording.chunk(delta.choice, {}, finish_reason=delta.finish_reason)
    if (of_prompt := await scores()) is not None:
        yield wording.prompt_chunk(of_prompt)
    if body.with_usage:
        yield wording.usage_chunk(completion_tokens)
