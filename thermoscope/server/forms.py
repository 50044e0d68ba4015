"""The form of an answer, as requests ask for it: JSON, JSON of a schema, or what another grammar allows."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from thermoscope.engine.grammar import Grammar
from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.settings import Text
from thermoscope.server.closed import closed
from thermoscope.server.fields import Answering, Body, Held
from thermoscope.server.tools.schema import Name

SCHEMA = "response_format.json_schema.schema"


class PlainFormat(Body):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class NamedSchema(Body):
    """A JSON Schema. The answer is held to it whether `strict` or not; without one it is any JSON object."""

    name: Name
    description: Text | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class SchemaFormat(Body):
    """JSON that a schema holds valid."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


def tag(form: object) -> str | None:
    """Pydantic's tag of a form, by its type."""
    named = form.get("type") if isinstance(form, dict) else getattr(form, "type", None)
    return {"text": "[plain]", "json_object": "[plain]", "json_schema": "[json_schema]"}.get(str(named))


ResponseFormat = Annotated[
    Annotated[PlainFormat, Tag("[plain]")] | Annotated[SchemaFormat, Tag("[json_schema]")],
    Discriminator(
        tag,
        custom_error_type="format",
        custom_error_message="an object of the type text, json_object or json_schema",
    ),
]


def form(body: Answering, asked: PlainFormat | SchemaFormat | None = None) -> Grammar | None:
    """What the answer is held to; None for any text. `asked`: the address's own name for it.

    **Errors:** `InvalidRequest` for what no answer can be held to, or for two forms at once.
    """
    held = None if body.thermoscope is None else body.thermoscope.grammar
    if asked is None or asked.type == "text":
        return None if held is None else _held(held)
    if held is not None:
        raise InvalidRequest(
            "thermoscope.grammar: got response_format as well, which is a form, too; leave one out.",
            param="thermoscope.grammar",
        )
    if isinstance(asked, PlainFormat) or asked.json_schema.schema_ is None:
        return Grammar.json_object(param="response_format")
    Grammar.json_schema(asked.json_schema.schema_, param=SCHEMA)  # refuses what is not supported
    return Grammar.json_schema(closed(asked.json_schema.schema_), param=SCHEMA)


def _held(held: Held) -> Grammar:
    given = held.model_dump(exclude_none=True)
    if len(given) != 1:
        raise InvalidRequest(
            f"thermoscope.grammar: got {len(given)} of regex, choice and lark, expected one of them.",
            param="thermoscope.grammar",
        )
    ((kind, value),) = given.items()
    make = {"regex": Grammar.regex, "choice": Grammar.choice, "lark": Grammar.lark}[kind]
    return make(value, param=f"thermoscope.grammar.{kind}")
