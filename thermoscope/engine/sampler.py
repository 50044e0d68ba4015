"""Logits -> token, and the record of the distribution that it was drawn from.

Penalties and bias change the logits (`adjustments.py`), the profile's filters cut (`laws/profiles.py`), and
the draw is argmax(z / T + noise) over what is left.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from thermoscope.engine.adjustments import Adjusted, Adjustments
from thermoscope.engine.request import Sampling
from thermoscope.engine.trace import Alternatives, Drawn, Record
from thermoscope.errors import ThermoscopeError
from thermoscope.laws import boltzmann, mirostat, noise, truncation
from thermoscope.laws.profiles import WHOLE, Cut
from thermoscope.models.distribution import Summary, draw, summarise
from thermoscope.models.tokenizer import Tokenizer

ALTERNATIVES = 20
FEW = 1024  # tokens whose noise numpy makes sooner than the kernel looks at all


class Left(NamedTuple):
    """What the filters left: ids, rising (None: all), the temperature of the draw, and each filter's cut."""

    members: Int[np.ndarray, "kept"] | None
    temperature: float
    cuts: Sequence[Cut] = ()


class Sampler:
    """Draws one answer's tokens. It remembers what was said, for the penalties; the noise needs nothing."""

    def __init__(self, sampling: Sampling, *, seed: int, choice: int, prompt: tuple[int, ...]) -> None:
        self._sampling = sampling
        self._profile = sampling.engine
        self._filters = sampling.filters
        self._first, self._seen_at = self._profile.opening(self._filters)
        self._seed = seed
        self._choice = choice
        self._adjustments = Adjustments(sampling, prompt)
        self._mu = mirostat.start(sampling.mirostat_tau)

    @property
    def temperature(self) -> float:
        """T of a summary's mass: the first filter's, or without one the draw's; 1 where logits decide it."""
        return 1.0 if self._seen_at is None else self._seen_at

    def draw(
        self,
        row: Float[np.ndarray, "vocab"],
        position: int,
        tokenizer: Tokenizer | None,
        summary: Summary | None = None,
    ) -> tuple[int, Record | None]:
        """Choose the token at `position` of the answer. With a tokenizer, also record how.

        `summary`: that of the row, from a caller who computes it for many rows at once.
        """
        row = np.ascontiguousarray(row, dtype=np.float32)
        raw = summary or summarise(torch.from_numpy(row)[None], [self.temperature], best=ALTERNATIVES)[0]
        if not math.isfinite(raw.entropy):
            raise ThermoscopeError("logits: got NaN or infinity, expected numbers; the weights are damaged.")
        adjusted = self._adjustments.apply(row)
        logits, asked = row, raw
        if adjusted is not None:
            logits = adjusted.logits
            asked = _summary(logits, self.temperature)
        left = self._filtered(logits, asked, position)
        token = self._race(row, adjusted, left, asked, position)
        record = None
        if tokenizer is not None or self._mu < math.inf:
            drawn = self._drawn(logits, asked, left)
            if tokenizer is not None:
                record = _record(row, raw, logits, left, drawn, token, tokenizer)
            self._steer(drawn.logprob(float(logits[token])), left.cuts)
        self._adjustments.say(token)
        return token, record

    def _filtered(self, logits: Float[np.ndarray, "vocab"], asked: Summary, position: int) -> Left:
        """What the filters leave. Where that is among the best, which are in hand, nothing else is seen."""
        if self._seen_at == 0:
            return Left(asked.best[:1], 0.0)
        if self._first is None:
            temperature = self._seen_at
            if temperature is None:
                temperature = self._profile.temperature(logits.astype(np.float64), self._filters)
            return Left(None if temperature else asked.best[:1], temperature)
        coin = noise.coin(self._seed, self._choice, position) if self._filters.xtc_probability else 1.0
        mass = None if self._seen_at is None else asked.mass
        if mass is not None and self._first not in WHOLE:
            head = logits[asked.best].astype(np.float64)
            left = self._cut(head, coin, mass, above=float(head[-1]))
            if left is not None:
                assert left.members is not None
                return left._replace(members=np.sort(asked.best[left.members]))
        left = self._cut(logits.astype(np.float64), coin, mass)
        assert left is not None
        return left

    def _cut(
        self, logits: Float[np.ndarray, "some"], coin: float, mass: float | None, *, above: float = -math.inf
    ) -> Left | None:
        """What is left of these logits; None if the first filter leaves one that is not above the bound."""
        cuts: list[Cut] = []
        members, temperature = np.arange(len(logits)), 1.0
        for cut in self._profile.cuts(logits, self._filters, coin=coin, mu=self._mu, mass=mass):
            _, members, temperature, law = cut
            if law is not None:
                if not cuts and not logits[members].min() > above:
                    return None
                cuts.append(cut)
        return Left(members, temperature, cuts)

    def _race(
        self,
        row: Float[np.ndarray, "vocab"],
        adjusted: Adjusted | None,
        left: Left,
        asked: Summary,
        position: int,
    ) -> int:
        """The token with the greatest z / T + noise.

        Of many, the kernel finds the best among the model's own logits, which meets those that were changed.
        """
        members, temperature = left.members, left.temperature
        if temperature == 0:
            assert members is not None
            return int(members[0])
        logits = row if adjusted is None else adjusted.logits
        greatest = asked.greatest if members is None else float(logits[members].max())
        if members is None or len(members) > FEW:
            key = noise.key(self._seed, self._choice, position)
            if members is None and adjusted is None:
                return draw(row, greatest, temperature, key)
            own = np.full(len(row), -np.inf, dtype=np.float32)
            own[slice(None) if members is None else members] = row if members is None else row[members]
            members = np.arange(0)
            if adjusted is not None:
                members = adjusted.touched[np.isfinite(own[adjusted.touched])]
                own[members] = -np.inf
            best = draw(own, greatest, temperature, key)
            if np.isfinite(own[best]):
                members = np.append(members, best)
        dice = noise.gumbel(self._seed, self._choice, position, members)
        # Differences from the best: a small T would send logits themselves to infinity.
        with np.errstate(over="ignore"):
            tempered = (logits[members].astype(np.float64) - greatest) / temperature
        return int(members[(tempered + dice).argmax()])

    def _drawn(self, logits: Float[np.ndarray, "vocab"], asked: Summary, left: Left) -> Drawn:
        """The distribution that is drawn from."""
        members, temperature = left.members, left.temperature
        if temperature == 0:
            assert members is not None
            return Drawn(0.0, float(logits[members[0]]), 1.0)
        if members is None and temperature == self._seen_at:
            return Drawn(temperature, asked.greatest, asked.mass)
        inside = (logits if members is None else logits[members]).astype(np.float64)
        return Drawn(temperature, float(inside.max()), float(boltzmann.weights(inside, temperature).sum()))

    def _steer(self, logprob: float, cuts: Sequence[Cut]) -> None:
        """Let Mirostat see the surprise of a token that had this probability among what was left."""
        if self._mu == math.inf:
            return
        if not self._profile.mirostat_alone:  # in front of its own cut, then
            logprob += sum(math.log1p(-law.removed) for name, _, _, law in cuts if name == "mirostat" and law)
        self._mu = mirostat.steered(self._mu, logprob, self._filters.mirostat_tau, self._filters.mirostat_eta)


def _record(
    row: Float[np.ndarray, "vocab"],
    raw: Summary,
    logits: Float[np.ndarray, "vocab"],
    left: Left,
    drawn: Drawn,
    token: int,
    tokenizer: Tokenizer,
) -> Record:
    best = row[raw.best]
    return Record(
        logprob=float(row[token]) - raw.log_z,
        sampler_logprob=drawn.logprob(float(logits[token])),
        entropy=raw.entropy,
        log_z=raw.log_z,
        kept=len(row) if left.members is None else len(left.members),
        removed_mass=1 - math.prod(1 - cut.law.removed for cut in left.cuts if cut.law is not None),
        alternatives=Alternatives(
            raw.best,
            best,
            best if logits is row else logits[raw.best],
            raw.log_z,
            drawn,
            None if left.members is None else _among(raw.best, left.members),
            tokenizer.piece,
        ),
    )


def _among(ids: Int[np.ndarray, "best"], members: Int[np.ndarray, "kept"]) -> Bool[np.ndarray, "best"]:
    """Which of the ids are members, which rise."""
    at = np.minimum(np.searchsorted(members, ids), len(members) - 1)
    held: Bool[np.ndarray, "best"] = members[at] == ids
    return held


def _summary(logits: Float[np.ndarray, "vocab"], temperature: float) -> Summary:
    """Of logits that penalties or a bias changed; what a record says of the model comes from the raw ones."""
    mass = float(boltzmann.weights(logits, temperature or 1.0).sum())
    best = truncation.top_k(logits, ALTERNATIVES).ids
    return Summary(math.nan, math.nan, float(logits[best[0]]), mass, best)
