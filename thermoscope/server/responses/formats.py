"""The form of a response's text: any, a JSON object, or what a JSON Schema holds valid."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from thermoscope.instruments.shape.settings import Text
from thermoscope.server.fields import Body
from thermoscope.server.tools.schema import Name


class PlainFormat(Body):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]

    def of_chat(self) -> dict[str, Any]:
        """As a chat request has it."""
        return {"type": self.type}


class SchemaFormat(Body):
    """JSON that a schema holds valid."""

    type: Literal["json_schema"]
    name: Name
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: Text | None = None
    strict: bool | None = None

    def of_chat(self) -> dict[str, Any]:
        """As a chat request has it: a level deeper."""
        asked = self.model_dump(exclude={"type"}, exclude_none=True, by_alias=True)
        return {"type": "json_schema", "json_schema": asked}


def _kind(form: object) -> str | None:
    kind = form.get("type") if isinstance(form, dict) else None
    return {"text": "[plain]", "json_object": "[plain]", "json_schema": "[json_schema]"}.get(str(kind))


Format = Annotated[
    Annotated[PlainFormat, Tag("[plain]")] | Annotated[SchemaFormat, Tag("[json_schema]")],
    Discriminator(
        _kind,
        custom_error_type="format",
        custom_error_message="an object of the type text, json_object or json_schema",
    ),
]
