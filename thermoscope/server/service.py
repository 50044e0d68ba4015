"""What every address of the server answers from: the model, under its names, and what stands beside it."""

import time
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import Request
from thermoscope.errors import ModelNotFound
from thermoscope.server.answers import Answers
from thermoscope.server.metrics import Metrics
from thermoscope.server.options import Options
from thermoscope.server.traces.store import Traces
from thermoscope.server.watch import Watch

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


class Service:
    """One loaded model, which answers to its own name and to its aliases.

    `vectors`: what answers may be steered by, by name. `metrics`, `traces`: what is counted, and kept.
    """

    def __init__(self, model: "LanguageModel", options: Options) -> None:
        self.model = model
        self.names = list(dict.fromkeys([model.name, *options.aliases]))
        self.vectors = options.vectors
        self.metrics = Metrics(model)
        self.traces = Traces(options.keep_traces)
        self._started = int(time.time())

    def known(self, name: str) -> str:
        """The name, if the model answers to it.

        **Errors:** `ModelNotFound`.
        """
        if name not in self.names:
            raise ModelNotFound(
                f"The model {name!r} is not loaded here; expected {' or '.join(self.names)}. "
                f"To give it another name, start the server with --alias."
            )
        return name

    def answers(self, request: Request, *, client: Hashable = None, traced: bool = False) -> Answers:
        """Have the engine answer; the caller iterates, and cancels at the end.

        `client`: who asks, as `client_of` says. `traced`: keep every step.
        """
        watch = Watch(self.metrics, self.traces if traced else None)
        return Answers(self.model.runner, replace(request, client=client), watch)

    def card(self, name: str) -> dict[str, Any]:
        """A name of the model as `/v1/models` lists it."""
        return {"id": name, "object": "model", "created": self._started, "owned_by": "thermoscope"}
