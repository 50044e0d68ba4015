"""Human text as passages: a beginning for the model to continue, and how its author did."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from thermoscope.errors import InvalidRequest
from thermoscope.models.tokenizer import Tokenizer


class Passage(NamedTuple):
    """Token ids: what the model is given, and what stands there in the text."""

    prompt: tuple[int, ...]
    following: tuple[int, ...]


def passages(path: Path, tokenizer: Tokenizer, *, count: int, prefix: int, tokens: int) -> list[Passage]:
    """The first `count` passages of a text, `prefix` tokens to begin with and `tokens` that follow.

    A passage begins where a paragraph of more than `prefix` tokens does, runs on through the next ones, and
    shares no paragraph with another.

    **Errors:** `InvalidRequest` if the text is too short.
    """
    found: list[Passage] = []
    text = ""
    for paragraph in _paragraphs(path):
        if text:
            text = f"{text}\n\n{paragraph}"
        elif len(tokenizer.prompt(paragraph)) > prefix:
            text = paragraph
        ids = tokenizer.prompt(text)[: prefix + tokens] if text else ()
        if len(ids) == prefix + tokens:
            found.append(Passage(ids[:prefix], ids[prefix:]))
            text = ""
            if len(found) == count:
                return found
    raise InvalidRequest(
        f"text: got {len(found)} passages of {prefix} + {tokens} tokens in {path.name}, expected {count}; "
        "give a longer text, or ask for fewer.",
        param="text",
    )


def _paragraphs(path: Path) -> Iterator[str]:
    """What stands between empty lines, its own lines joined; of JSON lines, the strings of a row."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        text = "\n\n".join(value for row in rows for value in row.values() if isinstance(value, str))
    for block in text.split("\n\n"):
        if paragraph := " ".join(block.split()):
            yield paragraph
