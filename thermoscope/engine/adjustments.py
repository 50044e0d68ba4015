"""Penalties and bias: what changes some logits before anything is cut, in the order of the profile."""

from array import array
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int

from thermoscope.engine.logits import Logits
from thermoscope.engine.request import Sampling
from thermoscope.laws import penalties

_NOTHING = np.arange(0), np.zeros(0)


class Tally:
    """How often each token came. It grows by one a step, which is cheaper than to count again.

    `ids`: rising. `counts`: theirs.
    """

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self.ids: Int[np.ndarray, "some"]
        self.counts: Float[np.ndarray, "some"]
        self.ids, counts = np.unique(np.array([*tokens], dtype=np.int64), return_counts=True)
        self.counts = counts.astype(np.float64)

    def add(self, token: int) -> None:
        """Once more."""
        at = int(self.ids.searchsorted(token))
        if at < len(self.ids) and self.ids[at] == token:
            self.counts[at] += 1
        else:
            self.ids, self.counts = np.insert(self.ids, at, token), np.insert(self.counts, at, 1.0)


class Adjustments:
    """What one answer's logits lose and gain. It remembers what was said, and where the prompt ended."""

    def __init__(self, sampling: Sampling, prompt: tuple[int, ...]) -> None:
        self._sampling = sampling
        self._memory = sampling.engine.memory
        active = {
            "repetition": sampling.repetition_penalty != 1,
            "counts": bool(sampling.presence_penalty or sampling.frequency_penalty),
            "dry": sampling.dry_multiplier > 0,
            "bias": bool(sampling.logit_bias),
        }
        self._stages = [stage for stage in sampling.engine.adjustments if active[stage]]
        self._tokens = array("q", prompt)  # numpy reads it where it stands
        self._said = Tally()
        self._seen = Tally(prompt if active["repetition"] else ())
        self._bias = _arrays(sampling.logit_bias)

    def say(self, token: int) -> None:
        """The answer's next token."""
        if not self._stages:
            return
        self._tokens.append(token)
        self._said.add(token)
        self._seen.add(token)

    def apply(self, row: Float[np.ndarray, "vocab"]) -> Logits:
        """The row with its penalties and bias."""
        if not self._stages:
            return Logits(row, *_NOTHING)
        stages = [(stage, *self._about(stage)) for stage in self._stages]
        touched = (
            stages[0][1] if len(stages) == 1 else np.unique(np.concatenate([ids for _, ids, _ in stages]))
        )
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

    def _about(self, stage: str) -> tuple[Int[np.ndarray, "some"], Float[np.ndarray, "some"]]:
        """The tokens that a stage touches, rising, and its number for each."""
        sampling = self._sampling
        if stage == "bias":
            return self._bias
        if stage == "dry":
            return _arrays(
                penalties.dry(
                    np.frombuffer(self._tokens, dtype=np.int64),
                    sampling.dry_multiplier,
                    sampling.dry_base,
                    sampling.dry_allowed_length,
                    sampling.dry_breakers,
                )
            )
        tally = self._seen if stage == "repetition" else self._said
        if self._memory is not None:
            tally = Tally(self._tokens[-self._memory :])
        return tally.ids, tally.counts


def _arrays(about: Mapping[int, float]) -> tuple[Int[np.ndarray, "some"], Float[np.ndarray, "some"]]:
    ids = np.array(sorted(about), dtype=np.int64)
    return ids, np.array([about[token] for token in ids.tolist()], dtype=np.float64)
