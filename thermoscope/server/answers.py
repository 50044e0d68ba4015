"""What the engine's thread delivers, brought to the event loop; and the ticket, given back in any case."""

import asyncio
from collections.abc import AsyncIterator, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi import Request as Exchange

from thermoscope.engine.request import Request
from thermoscope.engine.trace import Trace
from thermoscope.server.errors import ClientGoneError

if TYPE_CHECKING:
    from thermoscope.engine.engine import Delta
    from thermoscope.engine.runner import Runner


def client_of(exchange: Exchange, user: str | None) -> Hashable:
    """Who asks, as far as a request says: the machine, its key, and the user that it asks for.

    A number that tells nothing: requests are written to logs and traces, keys must not be.
    """
    machine = exchange.client.host if exchange.client else None
    return hash((machine, exchange.headers.get("authorization"), user))


class Answers:
    """The answers to one request while they are spoken: iterate over their deltas, and cancel at the end.

    `client`: who asks, as `client_of` says.
    """

    def __init__(self, runner: "Runner", request: Request, client: Hashable = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self._open = request.sampling.n
        self._ticket = runner.submit(replace(request, client=client), self._deliver)

    def _deliver(self, item: "Delta | Exception") -> None:
        self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)

    async def __aiter__(self) -> AsyncIterator["Delta"]:
        while self._open:
            item = await self._arrived.get()
            if isinstance(item, Exception):
                raise item
            self._open -= item.finish_reason is not None
            yield item

    def cancel(self) -> None:
        """Free the slots at the engine's next step; without effect once every answer is complete."""
        self._ticket.cancel()

    async def traces(self, exchange: Exchange) -> list[Trace]:
        """Wait for all answers, in the order of their choices.

        **Errors:** `ClientGoneError` as soon as the client closes the connection.
        """

        async def watch() -> None:
            while (await exchange.receive())["type"] != "http.disconnect":
                pass
            self._arrived.put_nowait(ClientGoneError())

        watcher = asyncio.create_task(watch())
        try:
            traces = [delta.trace async for delta in self if delta.trace is not None]
        finally:
            watcher.cancel()
            self.cancel()
        return sorted(traces, key=lambda trace: trace.choice)
