"""Who looks on while answers are spoken: the log's line, the metrics, and the trace that is kept."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from thermoscope.server import logs

if TYPE_CHECKING:
    from thermoscope.engine.request import Request
    from thermoscope.engine.runner import Ticket
    from thermoscope.engine.sequence import Delta
    from thermoscope.server.metrics import Metrics
    from thermoscope.server.traces.store import Traces


class Watch:
    """Sees the answers to one client's requests. `traces`: where their trace is kept, if it was asked for."""

    def __init__(self, metrics: "Metrics", traces: "Traces | None" = None) -> None:
        self.trace: str | None = None
        self._metrics = metrics
        self._traces = traces
        self._entry = logs.current.get()
        self._began = time.perf_counter()
        self._open: set[int] = set()  # choices that have not ended
        self._silent: set[int] = set()  # and those that have not begun

    @property
    def tag(self) -> dict[str, Any]:
        """What a response says of the trace: nothing, where none is kept."""
        return {} if self.trace is None else {"thermoscope": {"trace": self.trace}}

    def begin(self, requests: "Sequence[Request]", tickets: "Sequence[Ticket]") -> None:
        """The engine has these requests."""
        for request in requests:
            self._metrics.begun(len(request.prompt))
        self._open = set(range(sum(request.sampling.n for request in requests)))
        self._silent = set(self._open)
        if self._entry is not None:
            self._entry.prompt_tokens = sum(len(request.prompt) for request in requests)
            self._entry.completion_tokens = 0
        if self._traces is not None:
            self.trace = self._traces.begin([trace for ticket in tickets for trace in ticket.traces])

    def keep(self, item: "Delta | Exception", then: "Callable[[Delta | Exception], None]") -> None:
        """Have a delta kept, where a trace is, and then handed on; on the engine's thread."""
        if self.trace is None or self._traces is None:
            then(item)
        elif isinstance(item, Exception):
            self._traces.follow(lambda _: then(item))
        else:
            self._traces.add(self.trace, item, lambda failure: then(failure or item))

    def see(self, delta: "Delta") -> None:
        """A delta is on its way to the client."""
        self._metrics.drew(delta, first=delta.choice in self._silent)
        self._silent.discard(delta.choice)
        if self._entry is not None and self._entry.completion_tokens is not None:
            self._entry.completion_tokens += 1
        if delta.trace is not None:
            self._open.discard(delta.choice)
            self._metrics.finished(delta.trace, time.perf_counter() - self._began)

    def end(self, reason: str = "abort") -> None:
        """Nothing more comes; what has not ended was cut, by the client or by an error."""
        if self._open:
            self._metrics.ended(reason, time.perf_counter() - self._began, len(self._open))
            self._open.clear()
            if self._entry is not None:
                self._entry.cut = True
        if self.trace is not None and self._traces is not None:
            self._traces.end(self.trace)
