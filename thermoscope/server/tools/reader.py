"""An answer's text, taken apart while it is spoken: what is said, and what is called.

No mark leaks into a piece, wherever tokens cut the text: what could still become one is held back.
"""

import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass

from thermoscope.models.calls import CallFormat

LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Content:
    """Text for people."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A call of a function. `index`: its place among the answer's calls, from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """More of a call's arguments, which are a JSON object in the end."""

    index: int
    text: str


Piece = Content | CallBegins | Arguments


@dataclass(slots=True)
class Call:
    """A call with all that is known of its arguments."""

    id: str
    name: str
    arguments: str = ""


class TextReader:
    """Reads an answer that calls nothing: all of it is said."""

    complete = False

    def push(self, text: str, *, last: bool = False) -> list[Piece]:  # noqa: ARG002  (nothing is held back)
        """What these characters are."""
        return _said(text)


class CallReader:
    """Reads one answer. `complete`: whether there were calls, each with all its arguments."""

    def __init__(self, form: CallFormat) -> None:
        self._form = form
        self._state = self._content
        self._held = ""
        self._mark = ""  # the opening, with the white space before it
        self._index = -1  # of the call that is read
        self._depth = 0  # of braces and brackets within its arguments
        self._quoted = self._escaped = False
        self._last = False  # whether nothing more comes
        self.complete = False

    def push(self, text: str, *, last: bool = False) -> list[Piece]:
        """What these characters complete. With `last`, nothing more comes."""
        self._held += text
        self._last = last
        pieces: list[Piece] = []
        while True:
            state = self._state
            pieces += state()
            if self._state == state:
                return pieces

    def _content(self) -> list[Piece]:
        opening, text = self._form.opening, self._held
        at = text.find(opening)
        if at == 0 or (at > 0 and not self._form.leads):
            said = text[:at].rstrip()  # a line break before a call belongs to the call
            self._mark, self._held = text[len(said) : at + len(opening)], text[at + len(opening) :]
            self._state = self._head
            return _said(said)
        keep = 0 if self._last else _overlap(text, opening)
        said = text[: len(text) - keep]
        if self._form.leads and said:
            self._state = self._plain
            return []
        said = said if self._last else said.rstrip()
        self._held = text[len(said) :]
        return _said(said)

    def _plain(self) -> list[Piece]:
        said, self._held = self._held, ""
        return _said(said)

    def _head(self) -> list[Piece]:
        first = self._form.first
        if self._held.startswith(first):
            self._held = self._held[len(first) :]
            self._state = self._name
        elif not first.startswith(self._held):  # no call after all: a mark that the text only speaks of
            self._held = self._mark + self._held
            self._state = self._plain
        return []

    def _name(self) -> list[Piece]:
        name, found, rest = self._held.partition(self._form.middle)
        if not found:
            return []
        self._held = rest
        self._index += 1
        self.complete = False
        self._state = self._arguments
        return [CallBegins(self._index, call_id(self._form), name)]

    def _arguments(self) -> list[Piece]:
        end = self._object_end(self._held)
        text = self._held[:end]
        self._held = self._held[len(text) :]
        if end is not None:
            self.complete = True
            self._state = self._between
        return [Arguments(self._index, text)] if text else []

    def _between(self) -> list[Piece]:
        if self._form.again is not None:
            wanted = self._form.tail + self._form.again
            if self._held.startswith(wanted):
                self._held = self._held[len(wanted) :]
                self._state = self._name
                return []
            if wanted.startswith(self._held):
                return []
        self._held = ""  # the tail, the closing mark, and whatever stands behind them
        return []

    def _object_end(self, text: str) -> int | None:
        """Where the arguments end, if it is in this text."""
        for at, char in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = char == "\\"
                self._quoted = char != '"'
            elif char == '"':
                self._quoted = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return None


def gather(pieces: Iterable[Piece]) -> tuple[str, list[Call]]:
    """All that was said, and all that was called."""
    said: list[str] = []
    calls: list[Call] = []
    for piece in pieces:
        match piece:
            case Content():
                said.append(piece.text)
            case CallBegins():
                calls.append(Call(piece.id, piece.name))
            case Arguments():
                calls[piece.index].arguments += piece.text
    return "".join(said), calls


def call_id(form: CallFormat) -> str:
    """A new name for a call, which its result will be sent under."""
    if form.id_length is None:
        return f"call_{secrets.token_hex(12)}"
    return "".join(secrets.choice(LETTERS) for _ in range(form.id_length))


def _said(text: str) -> list[Piece]:
    return [Content(text)] if text else []


def _overlap(text: str, mark: str) -> int:
    """Length of the longest end of `text` that begins `mark`."""
    return next(
        (size for size in range(min(len(mark), len(text)), 0, -1) if mark.startswith(text[-size:])), 0
    )
