"""What every address of the server answers from: the model, under its names, and what stands beside it."""

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from thermoscope.engine.request import Request
from thermoscope.server.answers import Answers
from thermoscope.server.aside import Aside
from thermoscope.server.metrics import Metrics
from thermoscope.server.names import Names
from thermoscope.server.options import Options
from thermoscope.server.traces.store import Traces
from thermoscope.server.watch import Watch

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


class Service(Names):
    """One loaded model, which answers to its own name and to its aliases.

    `vectors`: what answers may be steered by, by name. `metrics`, `traces`: what is counted, and kept.
    """

    def __init__(self, model: "LanguageModel", options: Options) -> None:
        super().__init__(model.name, options.aliases)
        self.model = model
        self.vectors = options.vectors
        self.max_tokens = options.max_tokens
        self.aside = Aside(model.runner)
        self.metrics = Metrics(model)
        self.traces = Traces(options.keep_traces)

    def bounded(self, request: Request, default: int | None = None) -> Request:
        """The request, with a limit of tokens where it names none.

        `default`: of its address; None is the server's. Neither is more than the context leaves.
        """
        limit = default or self.max_tokens
        if request.sampling.max_tokens is not None or limit is None:
            return request
        room = max(1, self.model.context - len(request.prompt))  # where none is left, the engine says so
        return replace(request, sampling=replace(request.sampling, max_tokens=min(limit, room)))

    def answers(self, *requests: Request, client: Hashable = None, traced: bool = False) -> Answers:
        """Have the engine answer; the caller iterates, and cancels at the end.

        `client`: who asks, as `client_of` says. `traced`: keep every step.
        """
        watch = Watch(self.metrics, self.traces if traced else None)
        theirs = [replace(request, client=client) for request in requests]
        return Answers(self.model.runner, theirs, watch)
