"""What a chat request may hold: every field of OpenAI's, with its type and its range.

Unknown fields are refused, so a misspelt one never passes in silence. A field that OpenAI knows and
this engine does not is declared with the one value that changes nothing.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from thermoscope.instruments.shape.settings import Endless, Text

Empty = Annotated[list[Any], Field(max_length=0)]
TokenId = Annotated[int, Field(ge=0)]


Share = Annotated[float, Field(ge=0, le=1)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_parts(value: object) -> object:
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    if not isinstance(value, list):
        raise PydanticCustomError("content", "Input should be a string or a list of text parts")
    return value


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Body):
    """One part of a message's content; text is all that the model reads."""

    type: Literal["text"]
    text: Text


class Message(_Body):
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


class ResponseFormat(_Body):
    """The form of the answer: text."""

    type: Literal["text"]


class StreamOptions(_Body):
    """Options of a streamed answer. `include_usage`: a last chunk counts the tokens."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class Extension(_Body):
    """What Thermoscope's sampler can do beyond OpenAI's, and whether to show each token's step."""

    profile: Literal["openai", "hf", "vllm", "sglang", "llama.cpp"] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Share | None = None
    typical_p: Share | None = None
    epsilon: Share | None = None
    eta: Share | None = None
    top_n_sigma: Endless | None = None
    xtc_probability: Share | None = None
    xtc_threshold: Share | None = None
    mirostat_tau: Endless | None = None
    mirostat_eta: Annotated[float, Field(ge=0)] | None = None
    dynatemp_range: Endless | None = None
    dynatemp_exponent: Endless | None = None
    dry_multiplier: Annotated[float, Field(ge=0, le=1e6)] | None = None
    dry_base: Annotated[float, Field(ge=1, le=1e6)] | None = None
    dry_allowed_length: Annotated[int, Field(ge=1)] | None = None
    dry_breakers: list[TokenId] | None = None
    repetition_penalty: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    stop_ids: list[TokenId] | None = None
    ignore_eos: bool | None = None
    steps: bool | None = None
    timeout: Annotated[float, Field(ge=1e-3)] | None = None
    steer: Annotated[Text, StringConstraints(min_length=1, max_length=255)] | None = None


class ChatRequest(_Body):
    """The body of POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]

    temperature: Endless | None = None
    top_p: Share | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: (
        dict[
            Annotated[str, StringConstraints(pattern="^[0-9]{1,9}$")],
            Annotated[float, Field(ge=-100, le=100)],
        ]
        | None
    ) = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: (
        Annotated[
            list[Annotated[Text, StringConstraints(min_length=1)]],
            Field(max_length=4),
            BeforeValidator(_as_list, json_schema_input_type=str | list[str]),
        ]
        | None
    ) = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None

    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    thermoscope: Extension | None = None

    # Taken, and of no effect: they name the caller or help a provider's bookkeeping.
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(max_length=64)],
                Annotated[str, StringConstraints(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = None

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

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def with_steps(self) -> bool:
        """Whether the answer carries every token's step."""
        return bool(self.thermoscope and self.thermoscope.steps)


class ErrorDetail(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail
