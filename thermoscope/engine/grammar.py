"""What an answer may be: a JSON value, a sentence of a grammar, a match of a pattern, one of some texts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from thermoscope.engine import json_schema
from thermoscope.errors import InvalidRequest

LONGEST = 64 * 1024  # bytes of a grammar: a schema of hundreds of fields


@dataclass(frozen=True)
class Grammar:
    """The texts that an answer may be. Every constructor raises `InvalidRequest` for what cannot be one.

    - `kind`: the language of `source`: a JSON Schema, a grammar in Lark's notation, or a regular expression.
    - `param`: the field of the request that it came in, for errors.
    """

    kind: Literal["json_schema", "lark", "regex"]
    source: str
    param: str = field(default="grammar", compare=False)

    def __post_init__(self) -> None:
        try:
            size = len(self.source.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise self.refused(
                "got half a surrogate pair, expected Unicode text; send both halves"
            ) from error
        if size > LONGEST:
            raise self.refused(f"got {size} bytes, expected at most {LONGEST}; make it shorter")

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | bool, *, param: str = "grammar") -> Self:
        """A JSON value that the schema holds valid: no space but one behind a comma or a colon."""
        try:
            json_schema.check(schema)
        except InvalidRequest as error:
            raise InvalidRequest(f"{param}: {error}", param=param) from error
        return cls("json_schema", json.dumps(schema, ensure_ascii=False), param)

    @classmethod
    def json_object(cls, *, param: str = "grammar") -> Self:
        """Any JSON object."""
        return cls.json_schema({"type": "object"}, param=param)

    @classmethod
    def lark(cls, text: str, *, param: str = "grammar") -> Self:
        """A context-free grammar in Lark's notation, with a rule `start`."""
        return cls("lark", text, param)

    @classmethod
    def regex(cls, pattern: str, *, param: str = "grammar") -> Self:
        """A whole match of a regular expression: Rust's syntax, with neither anchors nor lazy repeats."""
        return cls("regex", pattern, param)

    @classmethod
    def choice(cls, texts: Sequence[str], *, param: str = "grammar") -> Self:
        """One of some texts."""
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise InvalidRequest(
                f"{param}: got {list(texts)!r}, expected texts that are not empty.", param=param
            )
        quoted = " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
        return cls("lark", f"start: CHOICE\nCHOICE: {quoted}", param)

    def to_dict(self) -> dict[str, str]:
        """Plain JSON values."""
        return {"kind": self.kind, "source": self.source}

    def refused(self, reason: str) -> InvalidRequest:
        """The error of a grammar that cannot be used."""
        return InvalidRequest(f"{self.param}: {reason}.", param=self.param)
