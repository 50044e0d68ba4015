"""Tokens -> text that may be shown: whole characters, and nothing that a stop string will take back."""

import codecs
from collections.abc import Sequence
from typing import NamedTuple


class Shown(NamedTuple):
    """What one token did to the text.

    `piece`: characters that it completed. `text`: characters that may now be shown, of this token or of
    earlier ones. `stopped`: a stop string ended the answer; it and all behind it are gone.
    """

    piece: str
    text: str
    stopped: bool


class TextStream:
    """Joins tokens' bytes, holding back an open UTF-8 character and what could become a stop string."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def push(self, data: bytes, *, last: bool = False) -> Shown:
        """Add a token's bytes. With `last`, nothing more comes: what was held back is shown."""
        piece = self._decoder.decode(data, final=last)
        pending = self._held + piece
        found = [(at + len(stop), at) for stop in self._stop if (at := pending.find(stop)) >= 0]
        if found:
            # The one that is complete first, so that the answer does not depend on how tokens cut the text.
            _, at = min(found)
            self._held = ""
            return Shown(piece, pending[:at], stopped=True)
        keep = 0 if last else self._overlap(pending)
        self._held = pending[len(pending) - keep :]
        return Shown(piece, pending[: len(pending) - keep], stopped=False)

    def _overlap(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        return max(
            (
                size
                for stop in self._stop
                for size in range(1, min(len(stop), len(text) + 1))
                if text.endswith(stop[:size])
            ),
            default=0,
        )
