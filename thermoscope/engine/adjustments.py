"""Penalties and bias: what changes some logits before anything is cut, in the order of the profile."""

from array import array
from collections import Counter
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from thermoscope.engine.logits import Logits
from thermoscope.engine.request import Sampling
from thermoscope.laws import penalties

_NOTHING = np.arange(0), np.zeros(0)


class Adjustments:
    """What one answer's logits lose and gain. It remembers what was said, and where the prompt ended."""

    def __init__(self, sampling: Sampling, prompt: tuple[int, ...]) -> None:
        self._sampling = sampling
        self._memory = sampling.engine.memory
        self._tokens = array("q", prompt)  # numpy reads it where it stands
        self._said: Counter[int] = Counter()
        self._seen = dict.fromkeys(prompt, 1)
        active = {
            "repetition": sampling.repetition_penalty != 1,
            "counts": bool(sampling.presence_penalty or sampling.frequency_penalty),
            "dry": sampling.dry_multiplier > 0,
            "bias": bool(sampling.logit_bias),
        }
        self._stages = [stage for stage in sampling.engine.adjustments if active[stage]]

    def say(self, token: int) -> None:
        """The answer's next token."""
        self._tokens.append(token)
        self._said[token] += 1
        self._seen[token] = 1

    def apply(self, row: Float[np.ndarray, "vocab"]) -> Logits:
        """The row with its penalties and bias."""
        if not self._stages:
            return Logits(row, *_NOTHING)
        stages = []
        for stage in self._stages:
            about = self._about(stage)
            ids = np.fromiter(about.keys(), dtype=np.int64, count=len(about))
            stages.append((stage, ids, np.fromiter(about.values(), dtype=np.float64, count=len(about))))
        touched = np.unique(np.concatenate([ids for _, ids, _ in stages]))
        values = row[touched].astype(np.float64)
        sampling = self._sampling
        for stage, ids, numbers in stages:
            at = touched.searchsorted(ids)
            if stage == "repetition":
                values[at] = penalties.repetition(values[at], sampling.repetition_penalty)
            elif stage == "counts":
                values[at] -= penalties.counted(
                    numbers, sampling.presence_penalty, sampling.frequency_penalty
                )
            elif stage == "dry":
                values[at] -= numbers
            else:
                values[at] += numbers
        return Logits(row, touched, values)

    def _about(self, stage: str) -> Mapping[int, float]:
        """The tokens that a stage touches, and its number for each."""
        sampling = self._sampling
        if stage == "bias":
            return sampling.logit_bias
        if stage == "dry":
            return penalties.dry(
                np.frombuffer(self._tokens, dtype=np.int64),
                sampling.dry_multiplier,
                sampling.dry_base,
                sampling.dry_allowed_length,
                sampling.dry_breakers,
            )
        if self._memory is not None:
            return Counter(self._tokens[-self._memory :])
        return self._seen if stage == "repetition" else self._said
