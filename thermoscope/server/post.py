"""From the engine's thread to the event loop, with one knock for all that is said until the loop looks."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class Post:
    """Has functions called on an event loop, in order, from any thread.

    A wake-up is a system call, which gives the interpreter away: knocking for each of a step's tokens, the
    engine would wait for the loop to send the first ones before it could begin the next step.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._sent: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._knocked = False

    def send(self, function: Callable[[Any], None], item: Any) -> None:
        """Have the function called with the item.

        **Errors:** `RuntimeError` once the loop is closed.
        """
        self._sent.append((function, item))
        if not self._knocked:  # looked at after appending: whoever empties the box resets it before
            self._knocked = True
            try:
                self.loop.call_soon_threadsafe(self._empty)
            except RuntimeError:
                self._knocked = False  # every sender must hear of it
                raise

    def _empty(self) -> None:
        self._knocked = False
        while self._sent:
            function, item = self._sent.popleft()
            function(item)
