"""A chat request in the engine's terms, and the engine's answer in OpenAI's."""

import math
import time
import uuid
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thermoscope import __version__
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.trace import Step, Trace
from thermoscope.errors import InvalidRequest
from thermoscope.server.schemas import ChatRequest

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.steering import Steering
    from thermoscope.models.tokenizer import Tokenizer

LEAST_LOGPROB = -9999.0  # what OpenAI writes for a token that is out of reach

SAME_NAME = {"temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "n", "max_tokens"}


def engine_request(
    body: ChatRequest,
    tokenizer: "Tokenizer",
    vectors: "Mapping[str, Steering] | None" = None,
    client: Hashable = None,
) -> Request:
    """What the engine is asked to do. Tokenizes the conversation, so it is not for the event loop.

    - `vectors`: those that an answer may be steered by, under the names that requests know them by.
    - `client`: who asks, for a fair queue.
    """
    _check_pairs(body)
    given = body.model_dump(include=SAME_NAME, exclude_none=True)
    if body.max_completion_tokens is not None:
        given["max_tokens"] = body.max_completion_tokens
    if body.thermoscope is not None:
        given |= body.thermoscope.model_dump(exclude={"steps", "steer", "timeout"}, exclude_none=True)
    for name in ("stop_ids", "dry_breakers"):
        given[name] = tuple(given.get(name, ()))
    given["stop"] = tuple(body.stop or ())
    given["logit_bias"] = {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    prompt = tokenizer.chat([message.plain() for message in body.messages])
    steering = _steering(body, vectors or {})
    return Request(
        prompt=prompt,
        sampling=Sampling(**given),
        steer=() if steering is None else steering.interventions(len(prompt)),
        client=client,
        timeout=(body.thermoscope and body.thermoscope.timeout) or math.inf,
        record=bool(body.logprobs) or body.thermoscope is None or body.thermoscope.steps is not False,
    )


def _steering(body: ChatRequest, vectors: "Mapping[str, Steering]") -> "Steering | None":
    """The vector that is named. Never a path: nothing in a request reaches the file system."""
    name = body.thermoscope and body.thermoscope.steer
    if not name:
        return None
    if name not in vectors:
        known = (
            f"one of {', '.join(vectors)}" if vectors else "a server that was started with --steer NAME=FILE"
        )
        raise InvalidRequest(f"steer: got {name!r}, expected {known}.", param="thermoscope.steer")
    return vectors[name]


def _check_pairs(body: ChatRequest) -> None:
    """Refuse fields that make no sense together."""
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest(
            "top_logprobs: got a number without logprobs; set logprobs to true.", param="top_logprobs"
        )
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "stream_options: got some without a stream; set stream to true, or leave them out.",
            param="stream_options",
        )
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise InvalidRequest(
            "max_tokens: got max_completion_tokens as well, which means the same; leave one out.",
            param="max_tokens",
        )


class Wording:
    """How one request's answers are put into words that OpenAI's clients know."""

    def __init__(self, body: ChatRequest, request: Request, model: "LanguageModel") -> None:
        self._body = body
        self._tokenizer = model.tokenizer
        self._prompt_tokens = len(request.prompt)
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": f"{model.name}-{model.precision}-{__version__}",
        }

    def completion(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """The whole answer."""
        choices = [
            {
                "index": trace.choice,
                "message": {"role": "assistant", "content": trace.text, "refusal": None},
                **self._of_steps(trace.steps),
                "finish_reason": trace.finish_reason,
            }
            for trace in traces
        ]
        return {**self._head, "choices": choices, "usage": self.usage(traces)}

    def chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        step: Step | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        """A piece of one choice, with the token that brought it."""
        seen = {"logprobs": None} if step is None else self._of_steps([step])
        return self._chunk([{"index": index, "delta": delta, **seen, "finish_reason": finish_reason}])

    def usage_chunk(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """The last piece, which counts tokens and belongs to no choice."""
        return self._chunk([]) | {"usage": self.usage(traces)}

    def usage(self, traces: Sequence[Trace]) -> dict[str, Any]:
        """Tokens read and drawn; an end token is drawn, too. `cached_tokens`: of the prompt, when its first answer
        began; the other answers share that prompt.
        """
        drawn = sum(len(trace.steps) for trace in traces)
        cached = next((trace.cached_tokens for trace in traces if trace.choice == 0), 0)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": drawn,
            "total_tokens": self._prompt_tokens + drawn,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        usage = {"usage": None} if self._body.with_usage else {}
        return {**self._head, "object": "chat.completion.chunk", "choices": choices, **usage}

    def _of_steps(self, steps: Sequence[Step]) -> dict[str, Any]:
        fields: dict[str, Any] = {"logprobs": None}
        if self._body.logprobs:
            # A control token is no part of the content, so it has no place in a list that mirrors it.
            spoken = [step for step in steps if not self._tokenizer.is_control(step.token)]
            fields["logprobs"] = {"content": [self._logprob(step) for step in spoken], "refusal": None}
        if self._body.with_steps:
            fields["thermoscope"] = {"steps": [step.to_dict() for step in steps]}
        return fields

    def _logprob(self, step: Step) -> dict[str, Any]:
        assert step.record is not None  # engine_request asks for records wherever logprobs are wanted
        best = step.record.alternatives[: self._body.top_logprobs or 0]
        return {
            **self._token(step.token, step.record.logprob),
            "top_logprobs": [self._token(other.token, other.logprob) for other in best],
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        return {
            "token": self._tokenizer.piece(token),
            "logprob": max(logprob, LEAST_LOGPROB),
            "bytes": list(self._tokenizer.bytes_of(token)) or None,
        }
