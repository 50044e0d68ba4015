"""The engine's answer to a conversation in the words that OpenAI's clients know."""

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from thermoscope import __version__
from thermoscope.engine.request import Request
from thermoscope.engine.trace import Step, Trace
from thermoscope.server.chat.schema import ChatRequest
from thermoscope.server.logprobs import logprobs

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel


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
        """Tokens read and drawn; an end token is drawn, too. `cached_tokens`: of the prompt, when its first
        answer began; the other answers share that prompt.
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
            fields["logprobs"] = {
                "content": logprobs(steps, self._tokenizer, self._body.top_logprobs or 0),
                "refusal": None,
            }
        if self._body.with_steps:
            fields["thermoscope"] = {"steps": [step.to_dict() for step in steps]}
        return fields
