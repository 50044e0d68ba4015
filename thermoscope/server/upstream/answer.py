"""One request's way to the other server, and its answer's way back: at once, or piece by piece."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from fastapi import Request

from thermoscope.errors import InvalidRequest, ThermoscopeError
from thermoscope.server.errors import ClientGoneError
from thermoscope.server.gone import unless_gone
from thermoscope.server.upstream.metrics import Watch
from thermoscope.server.upstream.request import Address, Passed, passed
from thermoscope.server.upstream.service import Service
from thermoscope.server.upstream.wording import Wording


async def at_once(
    service: Service, address: Address, body: Mapping[str, Any], exchange: Request
) -> dict[str, Any]:
    """The whole answer.

    **Errors:** `InvalidRequest`, `ModelNotFound`, `EngineStopped`, `UpstreamFailed`, `ClientGoneError`.
    """
    request = _checked(service, address, body)
    connection = service.upstream.connection
    watch = service.begin()
    try:
        answer = await unless_gone(exchange, service.unless_stopped(connection.ask(address, request.sent)))
        wording = Wording(request, connection.url, service.traces)
        try:
            whole = wording.reword(answer, streamed=False)
        finally:
            wording.end()
        watch.see(whole, streamed=False)
        watch.end()
        return whole
    except ClientGoneError:
        watch.end("abort")
        raise
    finally:
        watch.end("error")
        service.end()


async def streamed(service: Service, address: Address, body: Mapping[str, Any]) -> "Streamed":
    """The answer in pieces, once the other server has begun it.

    **Errors:** those of `at_once`.
    """
    request = _checked(service, address, body)
    connection = service.upstream.connection
    watch = service.begin()
    try:
        response = await connection.open(address, request.sent)
    except BaseException:
        watch.end("error")
        service.end()
        raise
    return Streamed(service, response, Wording(request, connection.url, service.traces), watch)


class Streamed:
    """An answer that the other server is still at; to cancel it tells that server that nobody listens."""

    def __init__(self, service: Service, response: httpx.Response, wording: Wording, watch: Watch) -> None:
        self._service = service
        self._watch = watch
        self._response = response
        self._wording = wording
        self._closing: asyncio.Task[None] | None = None

    @property
    def tag(self) -> dict[str, Any]:
        """What every piece says beside its choices: under which id a trace is kept."""
        return self._wording.tag

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        pieces = self._service.upstream.connection.events(self._response)
        try:
            while (piece := await self._service.unless_stopped(anext(pieces, None))) is not None:
                reworded = self._wording.reword(piece, streamed=True)
                self._watch.see(reworded, streamed=True)
                yield reworded
            self._watch.end()
        except ThermoscopeError:
            self._watch.end("error")
            raise

    def cancel(self) -> None:
        """Close it."""
        self._watch.end("abort")
        self._service.end()
        self._wording.end()
        self._closing = asyncio.create_task(self._response.aclose())


def _checked(service: Service, address: Address, body: Mapping[str, Any]) -> Passed:
    if not isinstance(body.get("model"), str):
        raise InvalidRequest(
            f"model: got {body.get('model')!r}, expected {' or '.join(service.names)}.", param="model"
        )
    service.known(body["model"])
    return passed(address, body, service.upstream.abilities)
