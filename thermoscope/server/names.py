"""The names that a server's model answers to."""

import time
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI

from thermoscope.errors import ModelNotFound


class Names:
    """A model's own name, and its aliases."""

    def __init__(self, name: str, aliases: Iterable[str]) -> None:
        self.names = list(dict.fromkeys([name, *aliases]))
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


def install(app: FastAPI, names: Names) -> None:
    """Have the app say what its model is called."""

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The model, under each of its names."""
        return {"object": "list", "data": [names.card(name) for name in names.names]}

    @app.get("/v1/models/{name:path}")
    async def model_card(name: str) -> dict[str, Any]:
        """One name of the model."""
        return names.card(names.known(name))
