"""What the addresses answer from where another server is the engine: its model, and what is kept of it."""

from typing import Any

from thermoscope.server.names import Names
from thermoscope.server.options import Options
from thermoscope.server.traces.store import Traces
from thermoscope.upstream.upstream import Upstream


class Service(Names):
    """One model of another server, which answers to its own name and to its aliases."""

    def __init__(self, upstream: Upstream, options: Options) -> None:
        super().__init__(upstream.name, options.aliases)
        self.upstream = upstream
        self.traces = Traces(options.keep_traces)

    def health(self) -> dict[str, Any]:
        """What `/health` says: where the answers come from, and what was found of it at the start."""
        found = self.upstream.abilities
        return {
            "status": "ok",
            "model": found.model,
            "context": found.context,
            "upstream": {"url": self.upstream.connection.url, **found.to_dict()},
        }
