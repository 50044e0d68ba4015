"""What an answer may be: a JSON value, a sentence of a grammar, a match of a pattern, one of some texts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from thermoscope.errors import InvalidRequest

LONGEST = 64 * 1024  # bytes of a grammar: a schema of hundreds of fields
DEEPEST = 64  # levels of a schema


@dataclass(frozen=True)
class Grammar:
    """The texts that an answer may be. Every constructor raises `InvalidRequest` for what cannot be one.

    - `kind`: the language of `source`: a JSON Schema, a grammar in Lark's notation, or a regular expression.
    """

    kind: Literal["json_schema", "lark", "regex"]
    source: str

    def __post_init__(self) -> None:
        try:
            size = len(self.source.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                "grammar: got half a surrogate pair, expected Unicode text; send both halves.",
                param="grammar",
            ) from error
        if size > LONGEST:
            raise InvalidRequest(
                f"grammar: got {size} bytes, expected at most {LONGEST}; make it shorter.", param="grammar"
            )

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool) -> Self:
        """A JSON value that the schema holds valid: no space but one behind a comma or a colon."""
        if not isinstance(schema, Mapping | bool):
            raise InvalidRequest(
                f"schema: got {type(schema).__name__}, expected an object or a boolean.", param="grammar"
            )
        _check_depth(schema)
        return cls("json_schema", json.dumps(schema, ensure_ascii=False))

    @classmethod
    def json_object(cls) -> Self:
        """Any JSON object."""
        return cls.json_schema({"type": "object"})

    @classmethod
    def lark(cls, text: str) -> Self:
        """A context-free grammar in Lark's notation, with a rule `start`."""
        return cls("lark", text)

    @classmethod
    def regex(cls, pattern: str) -> Self:
        """A whole match of a regular expression: Rust's syntax, with neither anchors nor lazy repeats."""
        return cls("regex", pattern)

    @classmethod
    def choice(cls, texts: Sequence[str]) -> Self:
        """One of some texts."""
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise InvalidRequest(
                f"choice: got {list(texts)!r}, expected texts that are not empty.", param="grammar"
            )
        quoted = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        return cls("lark", f"start: CHOICE\nCHOICE: {quoted}")


def _check_depth(schema: object) -> None:
    level, below = 0, [schema]
    while below:
        level += 1
        if level > DEEPEST:
            raise InvalidRequest(
                f"schema: got more than {DEEPEST} levels, expected at most that; make it flatter.",
                param="grammar",
            )
        below = [
            inner
            for each in below
            if isinstance(each, Mapping | list)
            for inner in (each.values() if isinstance(each, Mapping) else each)
        ]
