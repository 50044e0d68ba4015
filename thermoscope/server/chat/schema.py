"""What a chat request may hold: every field of OpenAI's, with its type and its range.

A field that OpenAI knows and this engine does not is declared with the one value that changes nothing.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.settings import Text
from thermoscope.server.fields import Body, Drawing, Empty, Metadata, example
from thermoscope.server.forms import ResponseFormat
from thermoscope.server.tools.offer import Offer, functions_offer, tools_offer
from thermoscope.server.tools.schema import (
    MOST,
    Choice,
    Function,
    FunctionCall,
    FunctionChoice,
    FunctionName,
    Tool,
    ToolCall,
)


def _as_parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list | None):
        raise PydanticCustomError("content", "Input should be a string or a list of text parts")
    return value


class TextPart(Body):
    """One part of a message's content; text is all that the model reads."""

    type: Literal["text"]
    text: Text


class Message(Body):
    """One turn of a conversation. `developer` is the newer name of `system`; `function` the older of `tool`.

    What a message of each role needs is checked where the conversation is put together.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[
        Annotated[list[TextPart], Field(min_length=1)] | None,
        BeforeValidator(_as_parts, json_schema_input_type=str | list[TextPart] | None),
    ] = None
    name: Text | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MOST)] | None = None
    tool_call_id: Text | None = None
    function_call: FunctionCall | None = None
    # An answer that a client sends back as it came carries these, all empty.
    refusal: None = None
    audio: None = None
    annotations: Empty | None = None

    @property
    def text(self) -> str:
        """What the message says."""
        return "\n".join(part.text for part in self.content or ())


class ChatRequest(Drawing):
    """The body of POST /v1/chat/completions."""

    model_config = example(messages=[{"role": "user", "content": "What is the capital of France?"}])

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]

    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    tools: Annotated[list[Tool], Field(max_length=MOST)] | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    # The same in the words of before tools.
    functions: Annotated[list[Function], Field(max_length=MOST)] | None = None
    function_call: FunctionChoice | None = None

    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    # Taken, and of no effect: they name the caller or help a provider's bookkeeping.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: Metadata | None = None

    # Known to OpenAI and not to this engine: only what changes nothing is taken.
    store: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    audio: None = None
    prediction: None = None
    moderation: None = None
    web_search_options: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None

    @property
    def offer(self) -> Offer | None:
        """What an answer may call; None for nothing.

        **Errors:** `InvalidRequest`, as `tools_offer` and `functions_offer` have it.
        """
        if not self.functions and not isinstance(self.function_call, FunctionName):
            return tools_offer(self.tools, self.tool_choice, parallel=self.parallel_tool_calls)
        if self.tools:
            raise InvalidRequest(
                "functions: got some beside tools, expected one of the two; put all of them into tools.",
                param="functions",
            )
        return functions_offer(self.functions, self.function_call)
