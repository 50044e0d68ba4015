"""The address of plain texts: continued at once, or as a stream of server-sent events."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi import Request as Exchange
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from thermoscope.engine.request import Request
from thermoscope.server.answers import Answers, client_of
from thermoscope.server.completions.request import engine_requests
from thermoscope.server.completions.schema import DEFAULT_MAX_TOKENS, CompletionRequest
from thermoscope.server.completions.wording import Wording
from thermoscope.server.constraint import refuse
from thermoscope.server.envelope import joined
from thermoscope.server.logprobs import scored
from thermoscope.server.service import Service
from thermoscope.server.stream import EITHER, Spoken, events, tagged

if TYPE_CHECKING:
    from thermoscope.engine.scores import Score


def install(app: FastAPI, service: Service) -> None:
    """Have the app continue texts."""
    model = service.model

    @app.post("/v1/completions", response_model=None, responses=EITHER)
    async def completions(body: CompletionRequest, exchange: Exchange) -> Response:
        """Continue a text or several, at once or as a stream of server-sent events."""
        service.known(body.model)
        refuse(body)
        requests = await run_in_threadpool(engine_requests, body, model.tokenizer, service.vectors)
        await service.compiled(*requests)
        client = client_of(exchange, body.user)
        answers = service.answers(
            *requests, client=client, traced=body.with_trace, max_tokens=DEFAULT_MAX_TOKENS
        )
        wording = Wording(body, requests, model)
        if body.stream:
            pieces = tagged(_chunks(body, requests, answers, wording, service), answers.tag)
            return Spoken(pieces, answers, lambda delta: events(wording.spoken(delta), answers.tag))
        traces = await answers.traces(exchange)
        of_prompts = await _scored(body, requests, service)
        completion = await run_in_threadpool(wording.completion, traces, of_prompts)
        return JSONResponse(joined(completion, answers.tag))


async def _chunks(
    body: CompletionRequest, requests: Sequence[Request], answers: Answers, wording: Wording, service: Service
) -> AsyncIterator[dict[str, Any]]:
    if body.echo:
        for chunk in wording.opening(await _scored(body, requests, service)):
            yield chunk
    traces = []
    async for delta in answers:
        for piece in wording.spoken(delta):
            yield piece
        if delta.trace is not None:
            traces.append(delta.trace)
    if body.with_usage:
        yield wording.usage_chunk(traces)


async def _scored(
    body: CompletionRequest, requests: Sequence[Request], service: Service
) -> "list[list[Score]] | None":
    """How the model scores the prompts, where they are echoed with their log-probabilities."""
    if not body.echo or body.logprobs is None:
        return None
    best = body.logprobs if body.all_alternatives is None else body.all_alternatives
    return [await scored(service.aside, request, best) for request in requests]
