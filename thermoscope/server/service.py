"""What every address of the server answers from: the model, under its names, and what stands beside it."""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thermoscope.errors import ModelNotFound

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.steering import Steering


class Service:
    """One loaded model, which answers to its own name and to its aliases.

    `vectors`: what answers may be steered by, by name.
    """

    def __init__(
        self,
        model: "LanguageModel",
        aliases: Sequence[str] = (),
        vectors: "Mapping[str, Steering] | None" = None,
    ) -> None:
        self.model = model
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

    def card(self, name: str) -> dict[str, Any]:
        """A name of the model as `/v1/models` lists it."""
        return {"id": name, "object": "model", "created": self._started, "owned_by": "thermoscope"}
