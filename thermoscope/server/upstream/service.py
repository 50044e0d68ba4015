"""What the addresses answer from where another server is the engine: its model, and what is kept of it."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from thermoscope.errors import EngineStopped
from thermoscope.server.names import Names
from thermoscope.server.options import Options
from thermoscope.server.traces.store import Traces
from thermoscope.server.upstream.metrics import Metrics
from thermoscope.upstream.upstream import Upstream

Value = TypeVar("Value")
STOPPING = "upstream: this server is stopping; ask again once it is back."


class Service(Names):
    """One model of another server, which answers to its own name and to its aliases.

    `closed`: it is to stop, and takes nothing new. `open`: answers that are under way.
    """

    def __init__(self, upstream: Upstream, options: Options) -> None:
        super().__init__(upstream.name, options.aliases)
        self.upstream = upstream
        self.traces = Traces(options.keep_traces)
        self.metrics = Metrics(upstream.name, lambda: self.open)
        self.closed = False
        self.open = 0
        self._stopped = asyncio.Event()

    def begin(self) -> None:
        """An answer is to be under way.

        **Errors:** `EngineStopped` once it is closed.
        """
        if self.closed:
            raise EngineStopped(STOPPING)
        self.open += 1

    def end(self) -> None:
        """An answer is complete, or was given up."""
        self.open -= 1

    def stop(self) -> None:
        """End every answer that is under way, with an error."""
        self._stopped.set()

    async def unless_stopped(self, work: Awaitable[Value]) -> Value:
        """What is waited for.

        **Errors:** `EngineStopped` where the server stops before it is there.
        """
        waited, stopped = asyncio.ensure_future(work), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((waited, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not waited.done():
                raise EngineStopped(STOPPING)
            return waited.result()
        finally:
            waited.cancel()
            stopped.cancel()

    def health(self) -> dict[str, Any]:
        """What `/health` says: where the answers come from, and what was found of it at the start."""
        found = self.upstream.abilities
        return {
            "status": "stopping" if self.closed else "ok",
            "model": found.model,
            "context": found.context,
            "running": self.open,
            "upstream": {"url": self.upstream.connection.url, **found.to_dict()},
        }
