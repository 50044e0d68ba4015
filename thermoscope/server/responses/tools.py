"""The fields of a request for a response that speak of functions; a chat request has them a level deeper."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, Tag
from pydantic_core import PydanticCustomError

from thermoscope.server.fields import Body
from thermoscope.server.tools.schema import CHOICE, MOST, Function, FunctionName


def _function_alone(tool: object) -> object:
    if isinstance(tool, dict) and tool.get("type") != "function":
        raise PydanticCustomError(
            "tool", "a tool of the type function, which the client runs; others run on OpenAI's machines"
        )
    return tool


class FunctionTool(Function):
    """A function that the model may call."""

    type: Literal["function"]
    defer_loading: Literal[False] | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    output_schema: None = None

    def plain(self) -> dict[str, Any]:
        """As a response says it again."""
        return {
            "type": "function",
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
            "strict": self.strict is not False,
        }

    def of_chat(self) -> dict[str, Any]:
        """As a chat request has it."""
        own = self.model_dump(include=set(Function.model_fields), exclude_none=True)
        return {"type": "function", "function": own}


class NamedTool(FunctionName):
    """A tool by its name."""

    type: Literal["function"]

    def of_chat(self) -> dict[str, Any]:
        """As a chat request has it."""
        return {"type": "function", "function": {"name": self.name}}


class AllowedTools(Body):
    """A choice among some of the tools, and whether one of them has to be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MOST)]

    def of_chat(self) -> dict[str, Any]:
        """As a chat request has it."""
        allowed = {"mode": self.mode, "tools": [tool.of_chat() for tool in self.tools]}
        return {"type": "allowed_tools", "allowed_tools": allowed}


Tools = Annotated[list[Annotated[FunctionTool, BeforeValidator(_function_alone)]], Field(max_length=MOST)]


Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("[mode]")]
    | Annotated[NamedTool, Tag("[function]")]
    | Annotated[AllowedTools, Tag("[allowed_tools]")],
    CHOICE,
]
