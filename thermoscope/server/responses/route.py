"""The address of responses: an answer at once or as events."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from thermoscope.server.answers import Answers, client_of
from thermoscope.server.beside import Beside, beside
from thermoscope.server.responses import kept
from thermoscope.server.responses.kept import ROOT
from thermoscope.server.responses.output import Event
from thermoscope.server.responses.request import engine_request, own_names
from thermoscope.server.responses.schema import CountRequest, ResponsesRequest
from thermoscope.server.responses.store import Store
from thermoscope.server.responses.wording import Wording
from thermoscope.server.service import Service
from thermoscope.server.stream import EITHER, Spoken, named, named_data


def install(app: FastAPI, service: Service) -> None:
    """Have the app answer requests for responses, and keep what it answered."""
    model = service.model
    store = Store()

    @app.post(ROOT, response_model=None, responses=EITHER)
    async def create(body: ResponsesRequest, exchange: Request) -> Response:
        """Answer a conversation, at once or as a stream of server-sent events."""
        service.known(body.model)
        items = store.conversation(body)
        request = await run_in_threadpool(
            engine_request, body, items, model.tokenizer, service.vectors, model.context
        )
        client = client_of(exchange, body.safety_identifier or body.user)
        with own_names():
            await service.compiled(request)
            look = await beside(service, body, request)
            answers = service.answers(request, client=client, traced=body.with_trace)
        wording = Wording(body, request, model, answers.tag)

        async def keep() -> bytes:
            whole = await run_in_threadpool(wording.kept, items)
            if body.store is not False:
                store.keep(wording.response["id"], whole)
            return whole.body

        if body.stream:
            pieces = _events(answers, wording, look, keep)
            return Spoken(pieces, answers, lambda delta: map(named_data, wording.spoken(delta)), named)
        (trace,) = await answers.traces(exchange)
        await run_in_threadpool(wording.whole, trace, await look())
        return Response(await keep(), media_type="application/json")

    @app.post(ROOT + "/input_tokens")
    async def input_tokens(body: CountRequest) -> dict[str, Any]:
        """How many tokens the model would read."""
        if body.model is not None:
            service.known(body.model)
        request = await run_in_threadpool(
            engine_request, body, store.conversation(body), model.tokenizer, service.vectors, model.context
        )
        return {"object": "response.input_tokens", "input_tokens": len(request.prompt)}

    kept.install(app, store)


async def _events(
    answers: Answers,
    wording: Wording,
    look: Beside,
    keep: Callable[[], Awaitable[bytes]],
) -> AsyncIterator[Event]:
    for event in wording.begin():
        yield event
    try:
        async for delta in answers:
            for event in wording.spoken(delta):
                yield event
            if delta.trace is not None:
                last = list(wording.end(delta.trace, await look()))
                await keep()  # first, so that whoever has read the end can ask for it
                for event in last:
                    yield event
    except Exception as error:  # the status is sent already: what went wrong travels as events
        for event in wording.fail(error):
            yield event
        await keep()
