"""What a chat request may hold: every field of OpenAI's, with its type and its range.

A field that OpenAI knows and this engine does not is declared with the one value that changes nothing.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from thermoscope.instruments.shape.settings import Text
from thermoscope.server.fields import Body, Drawing, Empty, Metadata


def _as_parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content", "Input should be a string or a list of text parts")
    return value


class TextPart(Body):
    """One part of a message's content; text is all that the model reads."""

    type: Literal["text"]
    text: Text


class Message(Body):
    """One turn of a conversation. `developer` is the newer name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[TextPart],
        Field(min_length=1),
        BeforeValidator(_as_parts, json_schema_input_type=str | list[TextPart]),
    ]
    name: str | None = None
    # An answer that a client sends back as it came carries these, all empty.
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Empty | None = None
    annotations: Empty | None = None

    def plain(self) -> dict[str, str]:
        """The message as chat templates read it."""
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": "\n".join(part.text for part in self.content)}


class ResponseFormat(Body):
    """The form of the answer: text."""

    type: Literal["text"]


class ChatRequest(Drawing):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]

    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    # Taken, and of no effect: they name the caller or help a provider's bookkeeping.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: Metadata | None = None

    # Known to OpenAI and not to this engine: only what changes nothing is taken.
    response_format: ResponseFormat | None = None
    store: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    tools: Empty | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    functions: Empty | None = None
    function_call: Literal["none", "auto"] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    audio: None = None
    prediction: None = None
    moderation: None = None
    web_search_options: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None
