"""/metrics of a server that stands before another one: what can be counted of answers that pass through.

Under vLLM's names where the meaning is the same, as the local engine has them. Tokens are those that the
upstream counted, in answers where it did.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from thermoscope.server import logs
from thermoscope.server.metrics import BETWEEN, FIRST, WHOLE, Meters

REASONS = ("stop", "length", "tool_calls", "function_call", "content_filter")  # of a label, so not any word
TEXTS = ("content", "text", "tool_calls", "function_call", "refusal", "reasoning", "reasoning_content")


class Metrics(Meters):
    """The counts of one server. `running`: requests under way."""

    def __init__(self, model: str, running: Callable[[], int]) -> None:
        super().__init__(model)
        self.gauge("vllm:num_requests_running", "Requests that are under way.", running)
        self.prompt = self.counter("vllm:prompt_tokens", "Tokens of prompts.")
        self.generated = self.counter("vllm:generation_tokens", "Tokens drawn.")
        self.ended = self.by_reason()
        self.first = self.histogram("vllm:time_to_first_token_seconds", "From request to first token.", FIRST)
        self.between = self.histogram(
            "thermoscope:between_pieces_seconds", "From one piece of a streamed answer to its next.", BETWEEN
        )
        self.whole = self.histogram(
            "vllm:e2e_request_latency_seconds", "From request to the end of its answers.", WHOLE
        )


class Watch:
    """Sees one request's answers pass, as many as `answers`."""

    def __init__(self, metrics: Metrics, answers: int) -> None:
        self._metrics = metrics
        self._entry = logs.current.get()
        self._began = time.perf_counter()
        self._last: dict[int, float] = {}  # when a choice last said something
        self._open = set(range(answers))
        self._usage: Mapping[str, Any] = {}

    def see(self, answer: Mapping[str, Any], *, streamed: bool) -> None:
        """An answer, or a piece of one, in OpenAI's form as far as its choices are a list of objects."""
        usage = answer.get("usage")
        self._usage = usage if isinstance(usage, dict) else self._usage
        for choice in answer.get("choices") or ():
            index, delta, reason = choice["index"], choice.get("delta"), choice["finish_reason"]
            said = delta if isinstance(delta, dict) else choice
            if streamed and any(said.get(name) for name in TEXTS):
                self._speak(index)
            if reason is not None and index in self._open:
                self._open.remove(index)
                self._metrics.ended(reason if reason in REASONS else "other").inc()

    def end(self, reason: str | None) -> None:
        """Nothing more comes. `reason`: why it ended before its end, `abort` or `error`."""
        read, drawn = self._tokens("prompt"), self._tokens("completion")
        self._metrics.prompt.inc(read)
        self._metrics.generated.inc(drawn)
        self._metrics.whole.observe(time.perf_counter() - self._began)
        if reason is not None and self._open:
            self._metrics.ended(reason).inc(len(self._open))
        if self._entry is not None:
            self._entry.prompt_tokens, self._entry.completion_tokens = read or None, drawn or None
            self._entry.cut = reason is not None and bool(self._open)

    def _speak(self, index: int) -> None:
        now = time.perf_counter()
        if index in self._last:
            self._metrics.between.observe(now - self._last[index])
        else:
            self._metrics.first.observe(now - self._began)
        self._last[index] = now

    def _tokens(self, kind: str) -> int:
        count = self._usage.get(f"{kind}_tokens")
        return count if type(count) is int and 0 <= count < 2**53 else 0
