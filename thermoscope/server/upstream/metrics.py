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
SAID = ("content", "text", "tool_calls", "function_call", "refusal", "reasoning", "reasoning_content")


class Metrics(Meters):
    """The counts of one server. `running`: answers under way."""

    def __init__(self, model: str, running: Callable[[], int]) -> None:
        super().__init__(model)
        self.gauge("vllm:num_requests_running", "Answers that are under way.", running)
        self.prompt = self.counter("vllm:prompt_tokens", "Tokens of prompts.")
        self.generated = self.counter("vllm:generation_tokens", "Tokens drawn.")
        self.ended = self.by_reason()
        self.first = self.histogram("vllm:time_to_first_token_seconds", "From request to first token.", FIRST)
        self.between = self.histogram(
            "thermoscope:between_pieces_seconds", "From one piece of a streamed answer to its next.", BETWEEN
        )
        self.whole = self.histogram(
            "vllm:e2e_request_latency_seconds", "From request to the end of the answer.", WHOLE
        )


class Watch:
    """Sees one request's answers pass."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._entry = logs.current.get()
        self._began = time.perf_counter()
        self._last: float | None = None
        self._usage: Mapping[str, Any] = {}
        self._ended = False

    def see(self, answer: Mapping[str, Any], *, streamed: bool) -> None:
        """An answer, or a piece of one."""
        usage = answer.get("usage")
        self._usage = usage if isinstance(usage, dict) else self._usage
        for choice in answer.get("choices") or ():
            delta = choice.get("delta")
            said = delta if isinstance(delta, dict) else choice
            if streamed and any(said.get(name) for name in SAID):
                now = time.perf_counter()
                if self._last is None:
                    self._metrics.first.observe(now - self._began)
                else:
                    self._metrics.between.observe(now - self._last)
                self._last = now
            if reason := choice.get("finish_reason"):
                self._metrics.ended(reason if reason in REASONS else "other").inc()

    def end(self, reason: str | None = None) -> None:
        """Nothing more comes. `reason`: why it ended before its end, `abort` or `error`."""
        if self._ended:
            return
        self._ended = True
        metrics, read, drawn = self._metrics, *(self._tokens(name) for name in ("prompt", "completion"))
        metrics.prompt.inc(read)
        metrics.generated.inc(drawn)
        metrics.whole.observe(time.perf_counter() - self._began)
        if reason is not None:
            metrics.ended(reason).inc()
        if self._entry is not None:
            self._entry.prompt_tokens, self._entry.completion_tokens = read or None, drawn or None
            self._entry.cut = reason is not None

    def _tokens(self, kind: str) -> int:
        count = self._usage.get(f"{kind}_tokens")
        return count if isinstance(count, int) and count > 0 else 0
