"""What every address of the server answers from: the model, under its names, and what stands beside it."""

import time
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import Request
from thermoscope.errors import ModelNotFound
from thermoscope.server.answers import Answers
from thermoscope.server.options import Options

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


class Service:
    """One loaded model, which answers to its own name and to its aliases.

    `vectors`: what answers may be steered by, by name.
    """

    def __init__(self, model: "LanguageModel", options: Options) -> None:
        self.model = model
        self.names = list(dict.fromkeys([model.name, *options.aliases]))
        self.vectors = options.vectors
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

    def answers(self, request: Request) -> Answers:
        """Have the engine answer; the caller iterates, and cancels at the end."""
        return Answers(self.model.runner, request)

    def card(self, name: str) -> dict[str, Any]:
        """A name of the model as `/v1/models` lists it."""
        return {"id": name, "object": "model", "created": self._started, "owned_by": "thermoscope"}
