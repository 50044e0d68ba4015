"""What every address of the server answers from: the model, under its names, and what stands beside it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from thermoscope.engine.request import Request
from thermoscope.errors import ModelNotFound
from thermoscope.server.aside import Aside

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.steering import Steering


class Service:
    """One loaded model, which answers to its own name and to its aliases.

    `vectors`: what answers may be steered by, by name. `max_tokens`: of an answer whose request names no
    limit; None is what the context leaves.
    """

    def __init__(
        self,
        model: "LanguageModel",
        aliases: Sequence[str] = (),
        vectors: "Mapping[str, Steering] | None" = None,
        max_tokens: int | None = None,
    ) -> None:
        self.model = model
        self.aside = Aside(model.runner)
        self.max_tokens = max_tokens
        self.names = list(dict.fromkeys([model.name, *aliases]))
        self.vectors: Mapping[str, Steering] = vectors or {}
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

    def bounded(self, request: Request, default: int | None = None) -> Request:
        """The request, with a limit of tokens where it names none.

        `default`: of its address; None is the server's. Neither is more than the context leaves.
        """
        limit = default or self.max_tokens
        if request.sampling.max_tokens is not None or limit is None:
            return request
        room = max(1, self.model.context - len(request.prompt))  # where none is left, the engine says so
        return replace(request, sampling=replace(request.sampling, max_tokens=min(limit, room)))

    def card(self, name: str) -> dict[str, Any]:
        """A name of the model as `/v1/models` lists it."""
        return {"id": name, "object": "model", "created": self._started, "owned_by": "thermoscope"}
