"""What the addresses answer from where another server is the engine: its model, under its names."""

import time
from collections.abc import Sequence
from typing import Any

from thermoscope.errors import ModelNotFound
from thermoscope.upstream.upstream import Upstream


class Service:
    """One model of another server, which answers to its own name and to aliases."""

    def __init__(self, upstream: Upstream, aliases: Sequence[str] = ()) -> None:
        self.upstream = upstream
        self.names = list(dict.fromkeys([upstream.name, *aliases]))
        self._started = int(time.time())

    def known(self, name: str) -> str:
        """The name, if the model answers to it.

        **Errors:** `ModelNotFound`.
        """
        if name not in self.names:
            raise ModelNotFound(
                f"The model {name!r} is not served here; expected {' or '.join(self.names)}. "
                f"To give it another name, start the server with --alias."
            )
        return name

    def card(self, name: str) -> dict[str, Any]:
        """A name of the model as `/v1/models` lists it."""
        return {"id": name, "object": "model", "created": self._started, "owned_by": "thermoscope"}

    def health(self) -> dict[str, Any]:
        """What `/health` says: where the answers come from, and what was found of it at the start."""
        found = self.upstream.abilities
        return {
            "status": "ok",
            "model": found.model,
            "context": found.context,
            "upstream": {"url": self.upstream.connection.url, **found.to_dict()},
        }
