"""What a request for a response may hold: every field of OpenAI's, with its type and its range.

A field that OpenAI knows and this engine does not is declared with the one value that changes nothing.
"""

from typing import Annotated, Literal

from pydantic import Field

from thermoscope.instruments.shape.settings import Text
from thermoscope.server.fields import Answering, Body, Empty, Metadata, example
from thermoscope.server.responses.formats import Format
from thermoscope.server.responses.items import Id, Input
from thermoscope.server.responses.tools import Choice, Tools


class TextConfig(Body):
    """What is asked of the answer's text."""

    format: Format | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Body):
    """What is asked of a reasoning model; this one has no thoughts apart from its answer."""

    effort: Literal["none"] | None = None
    summary: None = None
    generate_summary: None = None
    context: None = None
    mode: None = None


class Asked(Body):
    """What the model is asked, however the answer is wanted."""

    input: Input
    instructions: Text | None = None
    previous_response_id: Id | None = None
    tools: Tools | None = None
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    truncation: Literal["auto", "disabled"] | None = None

    # Known to OpenAI and not to this engine: only what changes nothing is taken.
    reasoning: Reasoning | None = None
    conversation: None = None

    @property
    def with_calls(self) -> bool:
        """Whether the answer may call functions."""
        return bool(self.tools) and self.tool_choice != "none"


class CountRequest(Asked):
    """The body of POST /v1/responses/input_tokens."""

    model: str | None = None
    personality: None = None


class ResponsesRequest(Asked, Answering):
    """The body of POST /v1/responses."""

    model_config = example(input="What is the capital of France?")

    model: str
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    store: bool | None = None
    metadata: Metadata | None = None

    # Taken: they name the caller, help a provider's bookkeeping, or bound what never comes.
    user: Text | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None  # of OpenAI's own tools, which are refused

    # Known to OpenAI and not to this engine: only what changes nothing is taken.
    background: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    context_management: Empty | None = None
    access_programs: None = None
    background_options: None = None
    image: None = None
    moderation: None = None
    prompt: None = None
    prompt_cache_options: None = None
    prompt_cache_retention: None = None

    @property
    def with_logprobs(self) -> bool:
        """Whether the answer's text carries its tokens' log-probabilities."""
        return bool(self.include)
