"""How answers are to be drawn: a request's fields in the engine's terms, for every address the same."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from thermoscope.engine.request import Sampling
from thermoscope.errors import InvalidRequest
from thermoscope.server.fields import Answering

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering

SAME_NAME = {"temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "n", "max_tokens"}
# What the extension holds beside the sampler's settings.
NO_SAMPLING = {
    *("steps", "steer", "trace", "timeout", "top_logprobs", "prompt_logprobs", "grammar", "constraint"),
}


def sampling(body: Answering, **others: object) -> Sampling:
    """The settings of the sampler. `others`: what an address names in its own way; None leaves a field be."""
    given = body.model_dump(include=SAME_NAME, exclude_none=True)
    given |= {name: value for name, value in others.items() if value is not None}
    if body.thermoscope is not None:
        given |= body.thermoscope.model_dump(exclude=NO_SAMPLING, exclude_none=True)
    for name in ("stop_ids", "dry_breakers"):
        given[name] = tuple(given.get(name, ()))
    given["stop"] = tuple(body.stop or ())
    given["logit_bias"] = {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    return Sampling(**given)


def steering(body: Answering, vectors: "Mapping[str, Steering]") -> "Steering | None":
    """The vector that is named. Never a path: nothing in a request reaches the file system."""
    name = body.thermoscope and body.thermoscope.steer
    if not name:
        return None
    if name not in vectors:
        known = (
            f"one of {', '.join(vectors)}" if vectors else "a server that was started with --steer NAME=FILE"
        )
        raise InvalidRequest(f"thermoscope.steer: got {name!r}, expected {known}.", param="thermoscope.steer")
    return vectors[name]


def timeout(body: Answering) -> float:
    """Seconds that the request gives itself."""
    return (body.thermoscope and body.thermoscope.timeout) or math.inf


def check_stream(body: Answering) -> None:
    """Refuse options of a stream that is not asked for."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "stream_options: got some without a stream; set stream to true, or leave them out.",
            param="stream_options",
        )
