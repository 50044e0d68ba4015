"""The addresses of responses: an answer at once or as events, and the answers that are kept."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from thermoscope.errors import InvalidRequest, ResponseNotFound
from thermoscope.server.answers import Answers, client_of
from thermoscope.server.beside import Beside, beside
from thermoscope.server.responses.items import Item
from thermoscope.server.responses.output import Event
from thermoscope.server.responses.request import engine_request, own_names
from thermoscope.server.responses.schema import CountRequest, ResponsesRequest
from thermoscope.server.responses.store import Store
from thermoscope.server.responses.wording import Wording
from thermoscope.server.service import Service
from thermoscope.server.stream import EITHER, Stream, named

ROOT = "/v1/responses"


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
            kept = await run_in_threadpool(wording.kept, items)
            if body.store is not False:
                store.keep(wording.response["id"], kept)
            return kept.body

        if body.stream:
            return Stream(_events(answers, wording, look, keep), answers, named)
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

    @app.post(ROOT + "/compact", include_in_schema=False)
    async def compact() -> None:
        """OpenAI's compaction is an encrypted item that only its own service can read."""
        raise ResponseNotFound("compact: not offered here; send fewer items, or truncation: auto.")

    @app.get(ROOT + "/{response}")
    async def retrieve(response: str, exchange: Request) -> Response:
        """A response that is kept."""
        _no_other(exchange, {"stream": "false"})
        return Response(store.get(response).body, media_type="application/json")

    @app.delete(ROOT + "/{response}")
    async def delete(response: str) -> dict[str, Any]:
        """Keep a response no longer."""
        store.forget(response)
        return {"id": response, "object": "response", "deleted": True}

    @app.get(ROOT + "/{response}/input_items")
    async def input_items(
        response: str,
        exchange: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> dict[str, Any]:
        """What the model read for a response, item by item."""
        _no_other(exchange, {"limit": None, "order": None, "after": None})
        items = store.get(response).read
        return _page(items if order == "asc" else items[::-1], limit, after)

    @app.post(ROOT + "/{response}/cancel")
    async def cancel(response: str) -> None:
        """Only responses in the background can be called off, and there are none here."""
        store.get(response)
        raise InvalidRequest(
            "cancel: only a response with background: true can be cancelled, and this server makes none; "
            "close the connection while it is answered."
        )


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
            for event in wording.say(delta.text, [delta.step]):
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


def _no_other(exchange: Request, known: dict[str, str | None]) -> None:
    """Refuse what an address does not read: `known` has its parameters, with the one value that is taken."""
    for name, value in exchange.query_params.multi_items():
        if name not in known or known[name] not in (None, value):
            raise InvalidRequest(
                f"{name}: got {value!r}, but this address knows nothing of it; leave it out.", param=name
            )


def _page(items: list[Item], limit: int, after: str | None) -> dict[str, Any]:
    start = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise InvalidRequest(
                f"after: got {after!r}, expected the id of an item of this response.", param="after"
            )
        start = ids.index(after) + 1
    page = items[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + limit < len(items),
    }
