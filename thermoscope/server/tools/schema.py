"""The fields of requests that speak of functions: what may be called, and what was."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError, PydanticSerializationError, to_json

from thermoscope.instruments.shape.settings import Text
from thermoscope.server.fields import Body

MOST = 128  # functions in one request, as OpenAI has it
AROUND = 16  # levels around a schema in what is written out, at most

Name = Annotated[str, StringConstraints(pattern="^[a-zA-Z0-9_-]{1,64}$")]


def _writable(schema: dict[str, Any]) -> dict[str, Any]:
    """What templates and responses write out again: a body can escape half a surrogate pair, UTF-8 cannot."""
    within: Any = schema
    for _ in range(AROUND):
        within = [within]
    try:
        to_json(within)
    except PydanticSerializationError as error:
        wanted = "without half surrogate pairs" if "surrogate" in str(error) else "that is nested less deeply"
        raise PydanticCustomError("schema", "Input should be a schema {wanted}", {"wanted": wanted}) from None
    return schema


class Function(Body):
    """A function that the model may call. `parameters`: the schema of its arguments, which are one object."""

    name: Name
    description: Text | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_writable)] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; functions are the only kind that runs on the client's side."""

    type: Literal["function"]
    function: Function


class FunctionName(Body):
    """A function by its name."""

    name: Name


class NamedTool(Body):
    """A tool by its name."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Body):
    """Some of the tools, and whether one of them has to be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MOST)]


class AllowedToolChoice(Body):
    """A choice among some of the tools."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _kind(choice: object) -> str | None:
    if isinstance(choice, str):
        return "[mode]"
    return f"[{choice.get('type', 'name')}]" if isinstance(choice, dict) else None


CHOICE = Discriminator(  # of an address's forms of a choice, by their tags
    _kind,
    custom_error_type="choice",
    custom_error_message="none, auto, required, or an object of the type function or allowed_tools",
)
Choice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("[mode]")]
    | Annotated[NamedTool, Tag("[function]")]
    | Annotated[AllowedToolChoice, Tag("[allowed_tools]")],
    CHOICE,
]
FunctionChoice = Annotated[
    Annotated[Literal["none", "auto"], Tag("[mode]")] | Annotated[FunctionName, Tag("[name]")],
    Discriminator(
        _kind,
        custom_error_type="choice",
        custom_error_message="none, auto, or an object with a function's name",
    ),
]


class FunctionCall(Body):
    """A call in a message. `arguments`: the text of a JSON object, as it was sent."""

    name: Name
    arguments: Text


class ToolCall(Body):
    """A call in a message, with the id that its result is sent under."""

    id: Annotated[Text, StringConstraints(min_length=1, max_length=256)]
    type: Literal["function"]
    function: FunctionCall
