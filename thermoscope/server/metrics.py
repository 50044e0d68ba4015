"""/metrics, for Prometheus: vLLM's names where the meaning is the same, so that its dashboards work.

What vLLM has no name for begins with `thermoscope:`. One set for each app, with the model's name as label.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from thermoscope.engine.trace import FinishReason, Trace

if TYPE_CHECKING:
    from thermoscope.engine.language_model import LanguageModel
    from thermoscope.engine.sequence import Delta

CONTENT_TYPE = CONTENT_TYPE_LATEST
FIRST = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
)
# vLLM's begin at 10 ms, within which a small model says several tokens.
BETWEEN = (
    0.001,
    0.002,
    0.003,
    0.004,
    0.005,
    0.0075,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.5,
    1,
    5,
)
WHOLE = (0.1, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960)
LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
ENTROPY = (0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12)
SET = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)

UNCOUNTED = 256  # tokens that are counted together: one by one they cost four times as much
Ending = FinishReason | str


class Meters:
    """What one server counts, in Prometheus' forms; the model's name is the label of all."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self.label = {"model_name": model}

    def counter(self, name: str, meaning: str) -> Counter:
        """A number that only rises."""
        return Counter(name, meaning, self.label, registry=self.registry).labels(**self.label)

    def by_reason(self) -> Callable[[Ending], Counter]:
        """A counter of answers for each reason of their ends; `abort` where a client went away."""
        ended = Counter(
            "vllm:request_success",
            "Answers that ended, by reason.",
            [*self.label, "finished_reason"],
            registry=self.registry,
        )
        return lambda reason: ended.labels(**self.label, finished_reason=reason)

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A number that is looked up when it is asked for."""
        gauge = Gauge(name, meaning, self.label, registry=self.registry)
        gauge.labels(**self.label).set_function(value)

    def histogram(self, name: str, meaning: str, bounds: Iterable[float]) -> Histogram:
        """How often a number lay below each bound."""
        histogram = Histogram(name, meaning, self.label, registry=self.registry, buckets=list(bounds))
        return histogram.labels(**self.label)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Metrics(Meters):
    """The counts of one server. Its methods are called on the event loop's thread, a token at a time."""

    def __init__(self, model: "LanguageModel") -> None:
        super().__init__(model.name)
        self._drawn: list[tuple[float, bool, float, int]] = []  # not counted yet
        runner = model.runner
        self.gauge("vllm:num_requests_running", "Answers that hold a slot.", lambda: runner.running)
        self.gauge("vllm:num_requests_waiting", "Answers that wait for a slot.", lambda: runner.waiting)
        self.gauge("vllm:kv_cache_usage_perc", "Share of the cache in use.", lambda: runner.cache_use)
        self._prompt = self.counter("vllm:prompt_tokens", "Tokens of prompts.")
        self._generated = self.counter("vllm:generation_tokens", "Tokens drawn.")
        self._looked_up = self.counter("vllm:prefix_cache_queries", "Tokens looked for in the cache.")
        self._found = self.counter("vllm:prefix_cache_hits", "Tokens found there, and not computed again.")
        self._ended = self.by_reason()
        self._first = self.histogram(
            "vllm:time_to_first_token_seconds", "From request to first token.", FIRST
        )
        self._between = self.histogram(
            "vllm:inter_token_latency_seconds", "From one token of an answer to its next.", BETWEEN
        )
        self._whole = self.histogram(
            "vllm:e2e_request_latency_seconds", "From request to the end of the answer.", WHOLE
        )
        self._prompts = self.histogram("vllm:request_prompt_tokens", "Tokens of a prompt.", LENGTHS)
        self._lengths = self.histogram("vllm:request_generation_tokens", "Tokens of an answer.", LENGTHS)
        self._entropy = self.histogram(
            "thermoscope:token_entropy_nats", "Entropy of the model's own distribution.", ENTROPY
        )
        self._kept = self.histogram("thermoscope:kept_tokens", "Tokens that truncation left.", SET)

    def begun(self, prompt: int) -> None:
        """A prompt of so many tokens was handed to the engine."""
        self._prompt.inc(prompt)
        self._prompts.observe(prompt)

    def drew(self, delta: "Delta", *, first: bool) -> None:
        """An answer has a token more. The delta itself is not held: its record may be a megabyte."""
        self._drawn.append((delta.step.ms / 1e3, first, delta.entropy, delta.kept))
        if len(self._drawn) >= UNCOUNTED:
            self._count()

    def finished(self, trace: Trace, seconds: float) -> None:
        """An answer came to its end."""
        self._looked_up.inc(len(trace.prompt))
        self._found.inc(trace.cached_tokens)
        self._lengths.observe(len(trace.steps))
        self.ended(trace.finish_reason or "error", seconds)

    def ended(self, reason: Ending, seconds: float, answers: int = 1) -> None:
        """So many answers ended; `abort` where a client went away, `error` where the engine failed."""
        self._ended(reason).inc(answers)
        for _ in range(answers):
            self._whole.observe(seconds)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        self._count()
        return super().text()

    def _count(self) -> None:
        """Count what was drawn."""
        drawn, self._drawn = self._drawn, []
        self._generated.inc(len(drawn))
        for seconds, first, entropy, kept in drawn:
            (self._first if first else self._between).observe(seconds)
            self._entropy.observe(entropy)
            self._kept.observe(kept)
