"""What can be seen of another server's answer: a value where it said one, and bounds where it did not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thermoscope.laws.partial import Bounds, Partial
from thermoscope.upstream.abilities import Meaning
from thermoscope.upstream.logprobs import Choice


@dataclass(frozen=True)
class Sight:
    """Whose log-probabilities a server shows. `temperature`: the request's, None where it names none."""

    logprobs: Meaning
    temperature: float | None
    vocabulary: int | None

    @property
    def own(self) -> float | None:
        """The temperature at which what is shown is the model's own distribution; None where nobody knows.

        With logits over T, the model's own are T times those, which is the distribution at 1/T.
        """
        if self.logprobs == "raw" or self.temperature == 1:
            return 1.0
        if self.logprobs == "tempered" and self.temperature:
            return 1 / self.temperature
        return None


@dataclass(frozen=True)
class Step:
    """One token of an answer. `ms`: since the token before, as it came here; None in an answer at once."""

    seen: Choice
    sight: Sight
    ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: [least, greatest] where only bounds are known, None where nothing is.

        `logprob`, `entropy`, `unseen_mass`: of the model's own distribution. `sampler_logprob`: of what was
        drawn from, where the server shows that instead.
        """
        chosen, own = self.seen.chosen, self.sight.own
        partial = self.seen.partial(self.sight.vocabulary)
        return {
            "text": chosen.text,
            "bytes": None if chosen.bytes is None else list(chosen.bytes),
            "ms": self.ms,
            "logprob": _logprob(chosen.logprob, own, partial),
            "sampler_logprob": chosen.logprob if self.sight.logprobs == "tempered" else None,
            "entropy": None if own is None or partial is None else _pair(partial.at(own).entropy),
            "unseen_mass": None if own is None or partial is None else _pair(partial.at(own).unseen),
            "alternatives": [
                {**each.to_dict(), "logprob": _logprob(each.logprob, own, partial)} for each in self.seen.best
            ],
        }


@dataclass
class Trace:
    """One answer and what was seen of it. `sampling`: the request's own fields, but for what was said."""

    model: str
    upstream: str
    sight: Sight
    sampling: Mapping[str, Any]
    choice: int = 0
    text: str = ""
    finish_reason: str | None = None
    steps: list[Step] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "model": self.model,
            "upstream": self.upstream,
            "logprobs": self.sight.logprobs,
            "vocabulary": self.sight.vocabulary,
            "sampling": dict(self.sampling),
            "choice": self.choice,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "steps": [step.to_dict() for step in self.steps],
        }


@dataclass(frozen=True)
class Piece:
    """A step as a trace's keeper takes it, with the text that came with it. Its answer's end comes apart."""

    choice: int
    text: str
    step: Step
    finish_reason: None = None
    trace: None = None


def _logprob(shown: float, own: float | None, partial: Partial | None) -> float | list[Any] | None:
    if own == 1:
        return shown
    return None if own is None or partial is None else _pair(partial.at(own).log_probability(shown))


def _pair(bounds: Bounds) -> list[Any]:
    return [each if math.isfinite(each) else str(each) for each in bounds]
