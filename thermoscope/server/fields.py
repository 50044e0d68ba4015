"""What requests to several addresses hold, each field with its type and its range.

Unknown fields are refused, so a misspelt one never passes in silence.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from thermoscope.instruments.shape.settings import Endless, Text

Empty = Annotated[list[Any], Field(max_length=0)]
TokenId = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_texts(value: object) -> object:
    """A text, texts, a text's token ids, or several texts' token ids -> a list of texts and lists of ids."""
    each = value if isinstance(value, list) and not _is_ids(value) else [value]
    for one in each:
        if isinstance(one, str):
            _check_unicode(one)
        elif not _is_ids(one):
            raise PydanticCustomError(
                "texts",
                "Input should be a text, a list of texts, a list of token ids (0 or more), or a list of such "
                "lists, none of them empty",
            )
    return each


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int and each >= 0 for each in value)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", "Input should be text without half surrogate pairs") from None


Texts = Annotated[
    list[str | list[int]],
    Field(min_length=1),
    BeforeValidator(_as_texts, json_schema_input_type=str | list[str] | list[TokenId] | list[list[TokenId]]),
]


class Body(BaseModel):
    """A JSON object whose keys and types are these and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


def example(**fields: Any) -> ConfigDict:
    """A body that is answered as it stands, for `/docs`, which else makes one up of all fields."""
    return ConfigDict(json_schema_extra={"examples": [{"model": "SmolLM2-135M-Instruct", **fields}]})


class StreamOptions(Body):
    """Options of a streamed answer."""

    include_obfuscation: Literal[False] | None = None


class CountedStreamOptions(StreamOptions):
    """The same where chunks are sent. `include_usage`: a last one counts the tokens."""

    include_usage: bool | None = None


class Held(Body):
    """What an answer is held to: a regular expression, one of some texts, or a grammar in Lark's notation."""

    regex: Text | None = None
    choice: Annotated[list[Text], Field(min_length=1)] | None = None
    lark: Text | None = None


class Extension(Body):
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
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    prompt_logprobs: Annotated[int, Field(ge=0)] | None = None
    trace: bool | None = None
    timeout: Annotated[float, Field(ge=1e-3)] | None = None
    steer: Annotated[Text, StringConstraints(min_length=1, max_length=255)] | None = None
    grammar: Held | None = None
    constraint: bool | None = None


class Answering(Body):
    """How one answer is drawn and given, in OpenAI's names; the same for every address."""

    temperature: Endless | None = None
    top_p: Share | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
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
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    thermoscope: Extension | None = None

    @property
    def all_alternatives(self) -> int | None:
        """How many alternatives to each token, where the number has no upper end."""
        return self.thermoscope.top_logprobs if self.thermoscope else None

    @property
    def prompt_alternatives(self) -> int | None:
        """How many alternatives to each token of the prompt; None where its scores are not asked for."""
        return self.thermoscope.prompt_logprobs if self.thermoscope else None

    @property
    def with_steps(self) -> bool:
        """Whether the answer carries every token's step."""
        return bool(self.thermoscope and self.thermoscope.steps)

    @property
    def with_trace(self) -> bool:
        """Whether every step is kept, to be asked for later."""
        return bool(self.thermoscope and self.thermoscope.trace)

    @property
    def with_records(self) -> bool:
        """Whether what is asked for under `thermoscope` needs the distributions tokens are drawn from."""
        return self.with_steps or self.with_trace


class Drawing(Answering):
    """How several answers are drawn, to a conversation or a text."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream_options: CountedStreamOptions | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ErrorDetail(BaseModel):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail
