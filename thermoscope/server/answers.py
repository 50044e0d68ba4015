"""What the engine's thread delivers, brought to the event loop; and the ticket, given back in any case."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import Request as Exchange

from thermoscope.engine.request import Request
from thermoscope.engine.trace import Trace
from thermoscope.server.errors import ClientGoneError
from thermoscope.server.post import Post
from thermoscope.server.watch import Watch

if TYPE_CHECKING:
    from thermoscope.engine.engine import Delta
    from thermoscope.engine.runner import Deliver, Runner, Ticket


UNREAD = 4096  # deltas that wait for a client that does not read; more, and its answers end


def client_of(exchange: Exchange, user: str | None) -> Hashable:
    """Who asks, as far as a request says: the machine, its key, and the user that it asks for.

    A number that tells nothing: requests are written to logs and traces, keys must not be.
    """
    machine = exchange.client.host if exchange.client else None
    return hash((machine, exchange.headers.get("authorization"), user))


class Answers:
    """The answers to a client while they are spoken: iterate over their deltas, and cancel at the end.

    - `requests`: one for each prompt. Their answers are numbered through, the first prompt's first.
    - `watch`: who looks on, and whether what they look at is kept. `post`: the way to the event loop.
    """

    def __init__(self, runner: "Runner", requests: Sequence[Request], watch: Watch, post: Post) -> None:
        self._post = post
        self._arrived: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self._open = 0
        self._say: Callable[[Delta], bool] = _nobody
        self._waited_for = False  # whether whoever iterates has done with all that came
        self._watch = watch
        self._begun = threading.Lock()
        self._tickets: list[Ticket] = []
        with self._begun:
            try:
                for request in requests:
                    self._tickets.append(runner.submit(request, self._deliver(self._open)))
                    self._open += request.sampling.n
            except BaseException:
                self.cancel()
                raise
            watch.begin(requests, self._tickets)

    @property
    def tag(self) -> dict[str, Any]:
        """What every response to the request says beside the answer."""
        return self._watch.tag

    def listen(self, say: "Callable[[Delta], bool]") -> None:
        """Have deltas handed to `say` as they arrive, on the event loop, while nothing waits before them.

        What it takes is not iterated over; what it does not take, and the end of each answer, is.
        """
        self._say = say

    def _deliver(self, first: int) -> "Deliver":
        """What takes the deltas of a request whose answers are numbered from `first` on."""

        def deliver(item: "Delta | Exception") -> None:
            if first and not isinstance(item, Exception):
                item = replace(item, choice=first + item.choice)
            with self._begun:  # nothing is kept of an answer before the answer itself
                pass
            self._watch.keep(item, self._hand_on)

        return deliver

    def _hand_on(self, item: "Delta | Exception") -> None:
        self._post.send(self._arrive, item)

    def _arrive(self, item: "Delta | Exception") -> None:
        if not isinstance(item, Exception) and self._said(item):
            return
        if self._arrived.qsize() >= UNREAD and not isinstance(item, Exception):
            item = ClientGoneError()
            self.cancel()
        self._arrived.put_nowait(item)

    def _said(self, delta: "Delta") -> bool:
        if delta.finish_reason is not None or not self._waited_for or not self._arrived.empty():
            return False
        try:
            said = self._say(delta)
            if said:
                self._watch.see(delta)
        except Exception as error:  # told to whoever iterates, who tells the client
            self._arrived.put_nowait(error)
            return True
        return said

    async def __aiter__(self) -> AsyncIterator["Delta"]:
        while self._open:
            self._waited_for = True
            try:
                item = await self._arrived.get()
            finally:
                self._waited_for = False
            if isinstance(item, Exception):
                self._watch.end("abort" if isinstance(item, ClientGoneError) else "error")
                raise item
            self._watch.see(item)
            self._open -= item.finish_reason is not None
            yield item

    def cancel(self) -> None:
        """Free the slots at the engine's next step; without effect once every answer is complete."""
        for ticket in self._tickets:
            ticket.cancel()
        self._say = _nobody  # which would hold the stream, and the stream holds these answers
        self._watch.end()

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


def _nobody(_: "Delta") -> bool:
    return False
