"""Conversations and prompts that another server answers."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from thermoscope.errors import InvalidRequest
from thermoscope.server.gone import unless_gone
from thermoscope.server.stream import Stream
from thermoscope.server.upstream.request import Address, passed
from thermoscope.server.upstream.service import Service
from thermoscope.server.upstream.wording import Wording

Fields = Annotated[dict[str, Any], Body(description="As OpenAI has it; the upstream judges each field.")]


def install(app: FastAPI, service: Service) -> None:
    """Have the app pass on what it is asked, and what is answered."""

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(body: Fields, exchange: Request) -> Response:
        """Have the upstream answer a conversation, at once or as a stream of server-sent events."""
        return await _answer(service, "/chat/completions", body, exchange)

    @app.post("/v1/completions", response_model=None)
    async def completions(body: Fields, exchange: Request) -> Response:
        """Have the upstream go on with a prompt, at once or as a stream of server-sent events."""
        return await _answer(service, "/completions", body, exchange)


async def _answer(service: Service, address: Address, body: dict[str, Any], exchange: Request) -> Response:
    if not isinstance(body.get("model"), str):
        raise InvalidRequest(
            f"model: got {body.get('model')!r}, expected {' or '.join(service.names)}.", param="model"
        )
    service.known(body["model"])
    connection = service.upstream.connection
    request = passed(address, body, service.upstream.abilities)
    service.begin()
    if request.sent.get("stream"):
        try:
            response = await connection.open(address, request.sent)
        except BaseException:
            service.end()
            raise
        wording = Wording(request, connection.url, service.traces)
        return Stream(_pieces(service, response, wording), _Open(service, response, wording))
    try:
        answer = await unless_gone(exchange, service.unless_stopped(connection.ask(address, request.sent)))
    finally:
        service.end()
    wording = Wording(request, connection.url, service.traces)
    try:
        return JSONResponse(wording.reword(answer, streamed=False))
    finally:
        wording.end()


async def _pieces(
    service: Service, response: httpx.Response, wording: Wording
) -> AsyncIterator[dict[str, Any]]:
    pieces = service.upstream.connection.events(response)
    while (piece := await service.unless_stopped(anext(pieces, None))) is not None:
        yield wording.reword(piece, streamed=True)


class _Open:
    """An answer that the other server is still at; to close it tells that server that nobody listens."""

    def __init__(self, service: Service, response: httpx.Response, wording: Wording) -> None:
        self._service = service
        self._response = response
        self._wording = wording
        self._closing: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Close it."""
        self._service.end()
        self._wording.end()
        self._closing = asyncio.create_task(self._response.aclose())
