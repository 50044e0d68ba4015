"""What a request to continue a text may hold: every field of OpenAI's, with its type and its range."""

from typing import Annotated

from pydantic import Field

from thermoscope.server.fields import Drawing, Texts, example

DEFAULT_MAX_TOKENS = 16  # OpenAI's, at this address only


class CompletionRequest(Drawing):
    """The body of POST /v1/completions."""

    model_config = example(prompt="The capital of France is")

    model: str
    prompt: Texts

    max_tokens: Annotated[int, Field(ge=0)] | None = None  # 0: nothing is drawn, as for a text's scores
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None

    user: str | None = None  # taken, and of no effect: it names the caller

    suffix: None = None  # known to OpenAI and not to this engine
