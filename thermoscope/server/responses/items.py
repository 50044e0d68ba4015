"""The items of a response's input: messages, calls of functions, and what the functions gave."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.settings import Text
from thermoscope.server.fields import Body, Empty

Item = dict[str, Any]
REFERRED = 8 * 2**20  # characters of items that are only referred to, as many as a body may hold
Id = Annotated[Text, StringConstraints(min_length=1, max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]


def new_id(kind: Literal["resp", "msg", "fc", "fco"]) -> str:
    """An id that nobody guesses; `kind` says what it is of."""
    return f"{kind}_{uuid.uuid4().hex}"


def _text_alone(kind: object) -> object:
    if kind not in ("input_text", "output_text"):
        raise PydanticCustomError(
            "part", "'input_text' or 'output_text'; the model reads text, and no images, files or sounds"
        )
    return kind


class Part(Body):
    """One part of an item's content. What an answer's part carries beside its text may come back with it."""

    type: Annotated[Literal["input_text", "output_text"], BeforeValidator(_text_alone)]
    text: Text
    annotations: Empty | None = None
    logprobs: list[Any] | None = None

    def plain(self) -> Item:
        """As it is listed."""
        part: Item = {"type": self.type, "text": self.text}
        return part | {"annotations": []} if self.type == "output_text" else part


def _as_parts(value: object) -> object:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


Content = Annotated[list[Part], BeforeValidator(_as_parts, json_schema_input_type=str | list[Part])]


class Message(Body):
    """What somebody said. `developer` is the newer name of `system`."""

    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[Content, Field(min_length=1)]
    id: Id | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None

    def plain(self) -> Item:
        """As it is listed and kept."""
        kind = "output_text" if self.role == "assistant" else "input_text"
        parts = [part.model_copy(update={"type": kind}).plain() for part in self.content]
        item = {"type": "message", "id": self.id or new_id("msg"), "status": self.status or "completed"}
        phase = {"phase": self.phase} if self.phase else {}
        return item | {"role": self.role, "content": parts} | phase


class FunctionCall(Body):
    """The model asked for a function to be called."""

    type: Literal["function_call"]
    call_id: Id
    name: Id
    arguments: Text
    id: Id | None = None
    status: Status | None = None
    namespace: None = None
    caller: None = None

    def plain(self) -> Item:
        """As it is listed and kept."""
        return {
            "type": "function_call",
            "id": self.id or new_id("fc"),
            "call_id": self.call_id,
            "name": self.name,
            "arguments": self.arguments,
            "status": self.status or "completed",
        }


class FunctionCallOutput(Body):
    """What the function gave."""

    type: Literal["function_call_output"]
    call_id: Id
    output: Content
    id: Id | None = None
    status: Status | None = None
    name: None = None
    namespace: None = None
    caller: None = None

    def plain(self) -> Item:
        """As it is listed and kept."""
        return {
            "type": "function_call_output",
            "id": self.id or new_id("fco"),
            "call_id": self.call_id,
            "output": "\n".join(part.text for part in self.output),
            "status": self.status or "completed",
        }


class ItemReference(Body):
    """An item of a response that is kept here."""

    type: Literal["item_reference"] | None = None
    id: Id


def _kind(item: object) -> str | None:
    if not isinstance(item, dict):
        return None
    kind = item.get("type")
    if kind is None:
        kind = "item_reference" if item.keys() <= {"type", "id"} else "message"
    return f"[{kind}]"


AnyItem = Annotated[
    Annotated[Message, Tag("[message]")]
    | Annotated[FunctionCall, Tag("[function_call]")]
    | Annotated[FunctionCallOutput, Tag("[function_call_output]")]
    | Annotated[ItemReference, Tag("[item_reference]")],
    Discriminator(
        _kind,
        custom_error_type="item",
        custom_error_message=(
            "an item of the type message, function_call, function_call_output or item_reference"
        ),
    ),
]


def _as_items(value: object) -> object:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


Input = Annotated[
    list[AnyItem],
    Field(min_length=1),
    BeforeValidator(_as_items, json_schema_input_type=str | list[AnyItem]),
]


def listed(items: Sequence[AnyItem], known: Mapping[str, Item]) -> list[Item]:
    """Items as they are kept, each with its id; `known`: those that may only be referred to, by id.

    **Errors:** `InvalidRequest` for a reference to nothing, and for references to too much: thousands of a
    few bytes each may name one long item.
    """
    plain, size = [], 0
    for at, item in enumerate(items):
        if not isinstance(item, ItemReference):
            plain.append(item.plain())
            continue
        found = known.get(item.id)
        if found is None:
            raise InvalidRequest(
                f"input[{at}].id: got {item.id!r}, expected an item of a response that is kept here; "
                "send the item itself.",
                param=f"input[{at}].id",
            )
        size += len(str(found))
        if size > REFERRED:
            raise InvalidRequest(
                f"input[{at}].id: got references to more than {REFERRED} characters, expected at most that; "
                "refer to fewer items.",
                param=f"input[{at}].id",
            )
        plain.append(found)
    return plain
