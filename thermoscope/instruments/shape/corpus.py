"""A file of texts, some of whose tokens are what a model should have said."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.seam import shared

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.source import File

PAIRS = (("prompt", "completion"), ("question", "answer"), ("input", "output"))


class Document(NamedTuple):
    """`given` is only read, `wanted` is what counts."""

    given: str
    wanted: str


class Labelled(NamedTuple):
    """A document's token ids, of which those from `first` on count; `cut` where the context has no room."""

    tokens: tuple[int, ...]
    first: int
    cut: bool


def documents(file: "File") -> list[Document]:
    """What a file holds.

    JSON lines with `text`, or with `prompt` and `completion` (or question and answer, input and output); or
    plain text, in which an empty line ends a document. A pair is one text, joined as it stands; only between
    a question and its answer comes a space, where neither has white space there.

    **Errors:** `InvalidRequest` for a line that is neither, with its number, and for a file with no text.
    """
    text = file.text
    found = list(_lines(file.name, text)) if text.lstrip().startswith("{") else _paragraphs(text)
    if not found:
        raise InvalidRequest(f"{file.name}: got no text, expected documents.")
    return found


def labelled(lab: "Lab", document: Document) -> Labelled:
    """A document as tokens. The first token of a text that nothing was given before has no prediction."""
    tokenizer = lab.model.tokenizer
    given = tokenizer.prompt(document.given) if document.given else ()
    tokens = tokenizer.prompt(document.given + document.wanted)
    room = lab.model.context - 1
    first = max(1, shared(given, tokens))  # a token may span the seam, and then it counts
    return Labelled(tuple(tokens[:room]), first, len(tokens) > room)


def _paragraphs(text: str) -> list[Document]:
    parts = (part.strip() for part in text.replace("\r\n", "\n").split("\n\n"))
    return [Document("", part) for part in parts if part]


def _lines(name: str, text: str) -> Iterator[Document]:
    for number, line in enumerate(text.split("\n"), start=1):  # JSON may hold other line ends
        if line.strip():
            try:
                yield _document(json.loads(line))
            except (ValueError, TypeError):
                pairs = ", ".join(" and ".join(pair) for pair in PAIRS)
                raise InvalidRequest(
                    f"{name}, line {number}: got {line[:60]!r}, expected a JSON object with text, or {pairs}."
                ) from None


def _document(plain: Any) -> Document:
    if not isinstance(plain, dict):
        raise TypeError
    for given, wanted in (("", "text"), *PAIRS):
        if isinstance(plain.get(wanted), str) and plain[wanted] and (not given or given in plain):
            before = plain[given] if given else ""
            if not isinstance(before, str):
                raise TypeError
            return Document(before + _gap(given, before, plain[wanted]), plain[wanted])
    raise ValueError


def _gap(given: str, before: str, wanted: str) -> str:
    """What is missing between a question and its answer, which are no halves of one text."""
    return (
        " " if given == "question" and before and not (before[-1:].isspace() or wanted[0].isspace()) else ""
    )
