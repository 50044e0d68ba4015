"""One request's way to the other server, and its answer's way back: at once, or piece by piece."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import httpx
from fastapi import Request

from thermoscope.errors import InvalidRequest, UpstreamFailed
from thermoscope.server.errors import ClientGoneError
from thermoscope.server.gone import unless_gone
from thermoscope.server.upstream.metrics import Watch
from thermoscope.server.upstream.request import Address, Passed, passed
from thermoscope.server.upstream.service import Service
from thermoscope.server.upstream.wording import Wording

Told = TypeVar("Told")


async def at_once(
    service: Service,
    address: Address,
    body: Mapping[str, Any],
    exchange: Request,
    tell: Callable[[dict[str, Any]], Told],
) -> Told:
    """What is told of the whole answer.

    **Errors:** `InvalidRequest`, `ModelNotFound`, `EngineStopped`, `UpstreamFailed`, `ClientGoneError`.
    """
    passing = Passing(service, _checked(service, address, body))
    try:
        asked = service.upstream.connection.ask(address, passing.request.sent)
        answer = await unless_gone(exchange, service.unless_stopped(asked))
        told = tell(passing.see(answer, streamed=False))
    except BaseException as error:
        passing.end(error)
        raise
    passing.end()
    return told


async def streamed(
    service: Service, address: Address, body: Mapping[str, Any], exchange: Request
) -> "Streamed":
    """The answer in pieces, once the other server has begun it.

    **Errors:** those of `at_once`.
    """
    passing = Passing(service, _checked(service, address, body))
    try:
        begun = service.upstream.connection.open(address, passing.request.sent)
        response = await unless_gone(exchange, service.unless_stopped(begun))
    except BaseException as error:
        passing.end(error)
        raise
    return Streamed(passing, response)


class Passing:
    """A request on its way, and all that has to be given back once, however it ends."""

    def __init__(self, service: Service, request: Passed) -> None:
        service.begin()
        self.service = service
        self.request = request
        self._wording = Wording(request, service.upstream.connection.url, service.traces)
        self._watch = Watch(service.metrics, request.answers)
        self._over = False

    @property
    def tag(self) -> dict[str, Any]:
        """What the answer says beside its choices: under which id a trace is kept."""
        return self._wording.tag

    def see(self, answer: dict[str, Any], *, streamed: bool) -> dict[str, Any]:
        """The answer or its piece as the client is to get it."""
        reworded = self._wording.reword(answer, streamed=streamed)
        self._watch.see(reworded, streamed=streamed)
        return reworded

    def end(self, error: BaseException | None = None) -> None:
        """It is over; the first time counts. `error`: what it failed at."""
        if self._over:
            return
        self._over = True
        self.service.end()
        self._wording.end()
        match error:
            case None:
                self._watch.end(None)
            case ClientGoneError() | asyncio.CancelledError():
                self._watch.end("abort")
            case UpstreamFailed() if error.status < httpx.codes.INTERNAL_SERVER_ERROR:
                pass  # it was refused, and never begun
            case _:
                self._watch.end("error")


class Streamed:
    """An answer that the other server is still at; to cancel it tells that server that nobody listens."""

    def __init__(self, passing: Passing, response: httpx.Response) -> None:
        self._passing = passing
        self._response = response
        self._closing: asyncio.Task[None] | None = None

    @property
    def tag(self) -> dict[str, Any]:
        """What every piece says beside its choices: under which id a trace is kept."""
        return self._passing.tag

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        service = self._passing.service
        pieces = service.upstream.connection.events(self._response)
        try:
            while (piece := await service.unless_stopped(anext(pieces, None))) is not None:
                yield self._passing.see(piece, streamed=True)
        except Exception as error:
            self.end(error)
            raise
        self.end()

    def end(self, error: Exception | None = None) -> None:
        """All of it is told, or it failed."""
        self._passing.end(error)

    def cancel(self) -> None:
        """Close it."""
        self._passing.end(ClientGoneError())
        self._closing = asyncio.create_task(self._response.aclose())


def _checked(service: Service, address: Address, body: Mapping[str, Any]) -> Passed:
    if not isinstance(body.get("model"), str):
        raise InvalidRequest(
            f"model: got {body.get('model')!r}, expected {' or '.join(service.names)}.", param="model"
        )
    service.known(body["model"])
    return passed(address, body, service.upstream.abilities)
