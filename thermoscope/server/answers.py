"""What the engine's thread delivers, brought to the event loop; and the ticket, given back in any case."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fastapi import Request as Exchange

from thermoscope.engine.request import Request
from thermoscope.engine.trace import Trace
from thermoscope.server.errors import ClientGoneError

if TYPE_CHECKING:
    from thermoscope.engine.engine import Delta
    from thermoscope.engine.runner import Deliver, Runner, Ticket


class Answers:
    """The answers to a client while they are spoken: iterate over their deltas, and cancel at the end.

    `requests`: one for each prompt. Their answers are numbered through, the first prompt's first.
    """

    def __init__(self, runner: "Runner", *requests: Request) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self._open = 0
        self._tickets: list[Ticket] = []
        try:
            for request in requests:
                self._tickets.append(runner.submit(request, self._deliver(self._open)))
                self._open += request.sampling.n
        except BaseException:
            self.cancel()
            raise

    def _deliver(self, first: int) -> "Deliver":
        def deliver(item: "Delta | Exception") -> None:
            if first and not isinstance(item, Exception):
                item = replace(item, choice=first + item.choice)
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)

        return deliver

    async def __aiter__(self) -> AsyncIterator["Delta"]:
        while self._open:
            item = await self._arrived.get()
            if isinstance(item, Exception):
                raise item
            self._open -= item.finish_reason is not None
            yield item

    def cancel(self) -> None:
        """Free the slots at the engine's next step; without effect once every answer is complete."""
        for ticket in self._tickets:
            ticket.cancel()

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
            traces = {delta.choice: delta.trace async for delta in self if delta.trace is not None}
        finally:
            watcher.cancel()
            self.cancel()
        return [traces[choice] for choice in sorted(traces)]
