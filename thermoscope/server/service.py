"""What every address of the server answers from: the model, under its names, and what stands beside it."""

from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING

from thermoscope.engine.request import Request
from thermoscope.server.answers import Answers
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
        self.metrics = Metrics(model)
        self.traces = Traces(options.keep_traces)

    def answers(self, request: Request, *, client: Hashable = None, traced: bool = False) -> Answers:
        """Have the engine answer; the caller iterates, and cancels at the end.

        `client`: who asks, as `client_of` says. `traced`: keep every step.
        """
        watch = Watch(self.metrics, self.traces if traced else None)
        return Answers(self.model.runner, replace(request, client=client), watch)
