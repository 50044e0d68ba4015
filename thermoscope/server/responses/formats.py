"""The form of a response's text; a chat request has a schema a level deeper."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from thermoscope.server import forms


class PlainFormat(forms.PlainFormat):
    """Any text, or any JSON object."""

    def of_chat(self) -> dict[str, Any]:
        """As a chat request has it."""
        return {"type": self.type}


class SchemaFormat(forms.NamedSchema):
    """JSON that a schema holds valid."""

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]

    def of_chat(self) -> dict[str, Any]:
        """As a chat request has it."""
        return {
            "type": "json_schema",
            "json_schema": self.model_dump(exclude={"type"}, by_alias=True, exclude_none=True),
        }


Format = Annotated[
    Annotated[PlainFormat, Tag("[plain]")] | Annotated[SchemaFormat, Tag("[json_schema]")],
    Discriminator(
        forms.tag,
        custom_error_type="format",
        custom_error_message="an object of the type text, json_object or json_schema",
    ),
]
