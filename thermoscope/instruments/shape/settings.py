"""The form of an instrument's settings: every field with its meaning, its unit and its range.

The command line's options, the body over HTTP and the form on a page are made from it, so a field is
described once. A range is checked here and nowhere else.
"""

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from thermoscope.errors import InvalidRequest

Value = TypeVar("Value")
_BEFORE_EXPECTED = re.compile(r"^(Input|String|Tuple|List|Dictionary|Value) should (be|have) ")  # pydantic's


class _Json(reprlib.Repr):
    """What a client wrote, shortened, as it wrote it: no True, no None."""

    def repr_bool(self, value: bool, _level: int) -> str:
        return "true" if value else "false"

    def repr_NoneType(self, _value: None, _level: int) -> str:  # noqa: N802  (reprlib looks for this name)
        return "null"


_as_json = _Json()


def _infinity(value: object) -> object:
    return math.inf if value == "inf" else value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", "Input should be text without half surrogate pairs") from None
    return value


Text = Annotated[str, AfterValidator(_encodable)]
Short = Annotated[str, Field(max_length=10_000), AfterValidator(_encodable)]  # a label, what follows a prompt
Many = Annotated[tuple[Value, ...], Field(strict=False)]  # a list will do, which is what JSON has
_Finite = Annotated[float, Field(ge=0)]
Endless = Annotated[
    float, Field(ge=0), BeforeValidator(_infinity, json_schema_input_type=_Finite | Literal["inf"])
]
Temperature = Endless


class Settings(BaseModel):
    """What an instrument may be asked, checked. Frozen; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Self:
        """Settings from plain values, as JSON or a command line gives them.

        **Errors:** `InvalidRequest` in one line, with the field's name.
        """
        try:
            return cls.model_validate(dict(plain))
        except ValidationError as error:
            problem = error.errors()[0]
            message, param = explain(problem, problem["loc"])
            raise InvalidRequest(message, param=param) from None


def setting(default: Any = ..., *, meaning: str, unit: str, argument: bool = False, **bounds: Any) -> Any:
    """A field of `Settings`.

    - `meaning`: one sentence for people. `unit`: of its number, or what kind of thing it is.
    - `argument`: stands on the command line without a name.
    - `bounds`: pydantic's `ge`, `le`, `min_length`, `max_length` …
    """
    about: dict[str, Any] = {"unit": unit, "argument": argument}
    return Field(default, description=meaning, json_schema_extra=about, **bounds)


class PromptSettings(Settings):
    """Settings of an instrument that looks at what follows a prompt."""

    prompt: Text = setting(
        meaning="The text whose next token is asked for.", unit="text", argument=True, min_length=1,
        max_length=100_000,
    )  # fmt: skip
    chat: bool = setting(False, meaning="Take the prompt as a user's message in a chat.", unit="switch")


def explain(problem: Mapping[str, Any], location: Sequence[str | int]) -> tuple[str, str | None]:
    """One line about what pydantic refused, and the field's name.

    `location`: where it stands, from the outermost field inwards.
    """
    param = _param(location)
    if not param:
        return f"expected a JSON object, got {_shorten(_as_json.repr(problem['input']))}.", None
    got = _shorten(_as_json.repr(problem["input"]))
    match problem["type"]:
        case "missing":
            return f"{param}: missing, and it is required.", param
        case "extra_forbidden":
            return f"{param}: no field of that name is known here; check its spelling or leave it out.", param
        case "none_required":
            return f"{param}: got {got}, but this server cannot do that yet; leave it out.", param
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{param}: got {got}, expected an object.", param
        case "tuple_type":
            return f"{param}: got {got}, expected a list.", param
        case "too_short" | "too_long" as bound:  # of a text, too, where something is checked after its type
            side, key = ("least", "min_length") if bound == "too_short" else ("most", "max_length")
            count, what = problem["ctx"][key], "character" if isinstance(problem["input"], str) else "item"
            plural = "" if count == 1 else "s"
            return f"{param}: got {got}, expected at {side} {count} {what}{plural}.", param
    expected = _BEFORE_EXPECTED.sub("", str(problem["msg"]))
    return f"{param}: got {got}, expected {expected[:1].lower()}{expected[1:]}.", param


def _param(location: Sequence[str | int]) -> str:
    """("messages", 0, "role") -> "messages[0].role"."""
    name = ""
    for part in location:
        if isinstance(part, int):
            name += f"[{part}]"
        elif not part.startswith("["):  # a mark: pydantic's for a dictionary's key, ours for a kind of object
            name += f".{part}" if name else part
    return _shorten(name)


def _shorten(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
