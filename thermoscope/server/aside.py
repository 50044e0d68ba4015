"""What is read from the model beside the answers: a text's scores, its vector."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from thermoscope.errors import TooBusy

if TYPE_CHECKING:
    from thermoscope.engine.runner import Runner
    from thermoscope.models.model import Model

WAITING = 64  # looks that wait at most
Item = TypeVar("Item")


class Aside:
    """One look at a time, in pieces between which everybody's answers go on.

    So only one look's memory is taken, and nobody's next token waits for more than a piece.
    """

    def __init__(self, runner: "Runner") -> None:
        self._runner = runner
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def look(self, look: "Callable[[Model], Iterator[Item]]") -> list[Item]:
        """All that a look at the model gives, each piece being one call on the engine's thread.

        **Errors:** those of the look; `TooBusy` where too many wait.
        """
        if self._waiting >= WAITING:
            raise TooBusy(f"model: {WAITING} texts wait to be read; ask again when some are done.")
        self._waiting += 1
        try:
            async with self._turn:
                runner = self._runner
                pieces: list[Item] = []
                going = await asyncio.wrap_future(runner.post(lambda: look(runner.engine.model)))
                while True:
                    piece = runner.post(lambda: next(going, None), background=True)
                    if (found := await asyncio.wrap_future(piece)) is None:
                        return pieces
                    pieces.append(found)
        finally:
            self._waiting -= 1
