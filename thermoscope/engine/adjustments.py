"""Penalties and bias: what changes some logits before anything is cut, in the order of the profile."""

from array import array
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from thermoscope.engine.request import Sampling
from thermoscope.laws import penalties


class Adjusted(NamedTuple):
    """Logits that were changed, in float64, and the ids of those that are not the model's own any more."""

    logits: Float[np.ndarray, "vocab"]
    touched: Int[np.ndarray, "some"]


class Adjustments:
    """What one answer's logits lose and gain. It remembers what was said, and where the prompt ended."""

    def __init__(self, sampling: Sampling, prompt: tuple[int, ...]) -> None:
        self._sampling = sampling
        self._memory = sampling.engine.memory
        self._tokens = array("q", prompt)  # numpy reads it where it stands
        self._said: Counter[int] = Counter()
        self._seen = set(prompt)
        asked = {
            "repetition": (sampling.repetition_penalty != 1, self._repetition),
            "counts": (bool(sampling.presence_penalty or sampling.frequency_penalty), self._counts),
            "dry": (sampling.dry_multiplier > 0, self._dry),
            "bias": (bool(sampling.logit_bias), self._bias),
        }
        order = sampling.engine.adjustments
        self._stages = [asked[stage][1] for stage in order if asked[stage][0]]

    def say(self, token: int) -> None:
        """The answer's next token."""
        self._tokens.append(token)
        self._said[token] += 1
        self._seen.add(token)

    def apply(self, row: Float[np.ndarray, "vocab"]) -> Adjusted | None:
        """The row with its penalties and bias; None where there are none."""
        if not self._stages:
            return None
        logits: Float[np.ndarray, "vocab"] = row.astype(np.float64)
        touched = np.unique(np.concatenate([stage(logits) for stage in self._stages]))
        return Adjusted(logits, touched) if len(touched) else None

    def _repetition(self, logits: Float[np.ndarray, "vocab"]) -> Int[np.ndarray, "some"]:
        ids = _ids(self._seen if self._memory is None else self._recent())
        logits[ids] = penalties.repetition(logits[ids], self._sampling.repetition_penalty)
        return ids

    def _counts(self, logits: Float[np.ndarray, "vocab"]) -> Int[np.ndarray, "some"]:
        said = self._said if self._memory is None else self._recent()
        ids, counts = _ids(said), np.fromiter(said.values(), dtype=np.float64, count=len(said))
        sampling = self._sampling
        logits[ids] -= penalties.counted(counts, sampling.presence_penalty, sampling.frequency_penalty)
        return ids

    def _recent(self) -> Counter[int]:
        """The last tokens, the prompt's too, and how often each is one of them."""
        assert self._memory is not None
        return Counter(self._tokens[-self._memory :])

    def _dry(self, logits: Float[np.ndarray, "vocab"]) -> Int[np.ndarray, "some"]:
        sampling = self._sampling
        costs = penalties.dry(
            np.frombuffer(self._tokens, dtype=np.int64),
            sampling.dry_multiplier,
            sampling.dry_base,
            sampling.dry_allowed_length,
            sampling.dry_breakers,
        )
        ids = _ids(costs)
        logits[ids] -= np.fromiter(costs.values(), dtype=np.float64, count=len(costs))
        return ids

    def _bias(self, logits: Float[np.ndarray, "vocab"]) -> Int[np.ndarray, "some"]:
        bias = self._sampling.logit_bias
        ids = _ids(bias)
        logits[ids] += np.fromiter(bias.values(), dtype=np.float64, count=len(bias))
        return ids


def _ids(tokens: Collection[int]) -> Int[np.ndarray, "some"]:
    return np.fromiter(tokens, dtype=np.int64, count=len(tokens))
