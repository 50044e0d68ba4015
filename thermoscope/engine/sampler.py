"""Logits -> token, and the record of the distribution that it was drawn from.

A grammar's mask comes first: what follows sees the tokens that it allows, as if there were no others.
Penalties and bias change their logits (`adjustments.py`), the profile's filters cut (`laws/profiles.py`), and
the draw is argmax(z / T + noise) over what is left.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from thermoscope.engine.adjustments import Adjustments
from thermoscope.engine.logits import Logits, among
from thermoscope.engine.request import ALTERNATIVES, Sampling
from thermoscope.engine.trace import Alternatives, Constraint, Drawn, Record
from thermoscope.errors import ThermoscopeError
from thermoscope.laws import boltzmann, mirostat, noise, truncation
from thermoscope.laws.profiles import WHOLE, Cut
from thermoscope.models import truncation as kernel
from thermoscope.models.distribution import Summary, draw, summarise
from thermoscope.models.tokenizer import Tokenizer

FEW_TAKEN = 1024  # tokens of a vocabulary that are sooner subtracted than the others summed


class Left(NamedTuple):
    """What the filters left.

    `members`: which of the logits, rising; None for all. `logits`: theirs, in float64; of all, none.
    `greatest`: of them. `temperature`: of the draw. `cuts`: what each filter did.
    """

    members: Int[np.ndarray, "kept"] | None
    logits: Float[np.ndarray, "kept"]
    greatest: float
    temperature: float
    cuts: Sequence[Cut] = ()


class Sampler:
    """Draws one answer's tokens. It remembers what was said, for the penalties; the noise needs nothing.

    `alternatives`: how many a record holds. `kept`: tokens that truncation left at the last draw.
    """

    kept: int

    def __init__(
        self,
        sampling: Sampling,
        *,
        seed: int,
        choice: int,
        prompt: tuple[int, ...],
        alternatives: int = ALTERNATIVES,
    ) -> None:
        self._sampling = sampling
        self._profile = sampling.engine
        self._filters = sampling.filters
        self._first, self._seen_at = self._profile.opening(self._filters)
        self._seed = seed
        self._choice = choice
        self._alternatives = alternatives
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
        allowed: Int[np.ndarray, "allowed"] | None = None,
    ) -> tuple[int, Record | None]:
        """Choose the token at `position` of the answer. With a tokenizer, also record how.

        - `summary`: that of the row, from a caller who computes it for many rows at once.
        - `allowed`: ids that a grammar leaves, rising; None for all.
        """
        row = np.ascontiguousarray(row, dtype=np.float32)
        raw = summary or self._summarised(row)
        if not math.isfinite(raw.entropy):
            raise ThermoscopeError(
                "logits: got NaN or infinity, expected numbers; the weights are damaged, or a vector steers "
                "too far."
            )
        logits = adjusted = self._adjustments.apply(row)
        inside, constraint = raw, None
        if allowed is not None:
            logits = adjusted.only(allowed)
            inside = self._inside(row, raw, allowed)
            constraint = Constraint(len(allowed), max(0.0, raw.log_z - inside.log_z))
        asked = inside if not len(logits.touched) else _summary(logits, inside, self.temperature)
        left = self._filtered(logits, asked, position)
        self.kept = len(logits.row if left.members is None else left.members)
        token = self._race(logits, left, position)
        record = None
        if tokenizer is not None or self._mu < math.inf:
            drawn = self._drawn(logits, asked, left)
            logprob = drawn.logprob(float(adjusted.at(np.array([token]))[0]))
            if tokenizer is not None:
                removed = self._removed(logits, asked, left, drawn)
                best = raw.best[: self._alternatives]
                if len(best) < self._alternatives:
                    best = truncation.top_k(row.astype(np.float64), self._alternatives).ids
                kept = logits.tokens(left.members)
                record = _record(
                    adjusted, raw, best, kept, drawn, removed, token, logprob, tokenizer, constraint
                )
            if self._mu < math.inf:
                self._steer(logprob, left.cuts)
        self._adjustments.say(token)
        return token, record

    def _inside(
        self, row: Float[np.ndarray, "vocab"], raw: Summary, allowed: Int[np.ndarray, "allowed"]
    ) -> Summary:
        """Of what a grammar leaves. Where that is nearly all, as in free text, the rest is subtracted."""
        if len(row) - len(allowed) <= FEW_TAKEN:
            without = np.ones(len(row), dtype=np.bool_)
            without[allowed] = False
            z = row[without].astype(np.float64)
            mass = raw.mass - float(
                boltzmann.weights(z, self.temperature or 1.0, greatest=raw.greatest).sum()
            )
            share = float(boltzmann.weights(z, 1.0, greatest=raw.log_z).sum())
            if not without[raw.best].any() and mass > raw.mass / 2 and share < 1 / 2:
                best = allowed.searchsorted(raw.best)
                return Summary(raw.log_z + math.log1p(-share), math.nan, raw.greatest, mass, best)
        return self._summarised(row[allowed])

    def _summarised(self, row: Float[np.ndarray, "some"]) -> Summary:
        return summarise(torch.from_numpy(row)[None], [self.temperature], best=ALTERNATIVES)[0]

    def _filtered(self, logits: Logits, asked: Summary, position: int) -> Left:
        """What the filters leave. Where that is among the best, which are in hand, nothing else is seen."""
        temperature = self._seen_at
        if temperature is None and self._first is None:
            temperature = self._profile.temperature(logits.all, self._filters, entropy=kernel.entropy)
        if temperature == 0 or self._first is None:
            members = asked.best[:1] if temperature == 0 else None
            return Left(members, logits.at(asked.best[:1]), asked.greatest, temperature or 0.0)
        coin = noise.coin(self._seed, self._choice, position) if self._filters.xtc_probability else 1.0
        mass = None if self._seen_at is None else asked.mass
        enough = self._first not in WHOLE and not (
            self._first == "top_k" and self._filters.top_k >= ALTERNATIVES
        )
        if mass is not None and enough:
            head = logits.at(asked.best)
            left = None
            if self._first != "top_p" or self._holds(head, asked, temperature):
                left = self._cut(head, coin, mass, above=float(head[-1]))
            if left is not None and left.cuts:
                assert left.members is not None
                ids = asked.best[left.members]
                order = np.argsort(ids)
                return left._replace(members=ids[order], logits=left.logits[order])
        left = self._cut(logits.all, coin, mass)
        assert left is not None
        return left

    def _holds(self, head: Float[np.ndarray, "best"], asked: Summary, temperature: float | None) -> bool:
        """Whether the best hold the nucleus: a look that is cheaper than to cut them in vain."""
        assert temperature is not None
        weight = boltzmann.weights(head, temperature, greatest=asked.greatest).sum()
        return bool(weight >= self._filters.top_p * asked.mass)

    def _cut(
        self, logits: Float[np.ndarray, "some"], coin: float, mass: float | None, *, above: float = -math.inf
    ) -> Left | None:
        """What is left of these logits; None if the first filter leaves one that is not above the bound.

        Where no filter cut (XTC's coin may miss), nothing is known of logits that are not here.
        """
        cuts: list[Cut] = []
        filters, mu = self._filters, self._mu
        for cut in self._profile.cuts(
            logits, filters, coin=coin, mu=mu, mass=mass, laws=kernel.LAWS, entropy=kernel.entropy
        ):
            if cut.law is not None:
                if not cuts and not cut.logits.min() > above:
                    return None
                cuts.append(cut)
        return Left(cut.members, cut.logits, float(cut.logits.max()), cut.temperature, cuts)

    def _race(self, logits: Logits, left: Left, position: int) -> int:
        """The token with the greatest z / T + noise."""
        members, z = logits.tokens(left.members), left.logits
        if left.temperature == 0:
            assert members is not None
            return int(members[0])
        if left.members is None:
            z = logits.all if len(logits.touched) else logits.row
        key = noise.key(self._seed, self._choice, position)
        return draw(z, left.greatest, left.temperature, key, members)

    def _drawn(self, logits: Logits, asked: Summary, left: Left) -> Drawn:
        """The distribution that is drawn from."""
        if left.temperature == 0:
            return Drawn(0.0, left.greatest, 1.0)
        if left.members is None and left.temperature == self._seen_at:
            return Drawn(left.temperature, asked.greatest, asked.mass)
        z = logits.all if left.members is None else left.logits
        mass = kernel.mass(z, left.temperature, left.greatest)
        return Drawn(left.temperature, left.greatest, mass)

    def _removed(self, logits: Logits, asked: Summary, left: Left, drawn: Drawn) -> float:
        """The probability that the filters cut off, of all or, where T changed on the way, of each's own."""
        if left.members is None or len(left.members) == len(logits.row):
            return 0.0
        if 0 < left.temperature == self._seen_at:
            stands = math.exp((left.greatest - asked.greatest) / left.temperature)
            return max(0.0, 1 - stands * drawn.mass / asked.mass)
        return 1 - math.prod(1 - cut.law.removed for cut in left.cuts if cut.law is not None)

    def _steer(self, logprob: float, cuts: Sequence[Cut]) -> None:
        """Let Mirostat see the surprise of a token that had this probability among what was left."""
        if not self._profile.mirostat_alone:  # in front of its own cut, then
            logprob += sum(math.log1p(-cut.law.removed) for cut in cuts if cut.law and cut.name == "mirostat")
        self._mu = mirostat.steered(self._mu, logprob, self._filters.mirostat_tau, self._filters.mirostat_eta)


def _record(
    logits: Logits,
    raw: Summary,
    best: Int[np.ndarray, "best"],
    kept: Int[np.ndarray, "kept"] | None,
    drawn: Drawn,
    removed: float,
    token: int,
    logprob: float,
    tokenizer: Tokenizer,
    constraint: Constraint | None,
) -> Record:
    values = logits.row[best]
    return Record(
        logprob=float(logits.row[token]) - raw.log_z,
        sampler_logprob=logprob,
        entropy=raw.entropy,
        log_z=raw.log_z,
        kept=len(logits.row if kept is None else kept),
        removed_mass=removed,
        alternatives=Alternatives(
            best,
            values,
            logits.at(best) if len(logits.touched) else values,
            raw.log_z,
            drawn,
            None if kept is None else among(best, kept),
            tokenizer.piece,
        ),
        constraint=constraint,
    )


def _summary(logits: Logits, raw: Summary, temperature: float) -> Summary:
    """Of logits of which some were changed; what a record says of the model comes from the raw ones.

    The mass is what the changed ones leave of the raw one, and theirs; the best are those above the least of
    the raw best, of which none is unknown. Where little is left of either, all logits are looked at.
    """
    temperature = temperature or 1.0
    before = boltzmann.weights(
        logits.row[logits.touched].astype(np.float64), temperature, greatest=raw.greatest
    )
    rest = raw.mass - float(before.sum())
    ids = np.concatenate((raw.best[~among(raw.best, logits.touched)], logits.touched))
    z = logits.at(ids)
    known = z > logits.row[raw.best[-1]]
    if rest < 1e-3 * raw.mass or not known.any():
        best = truncation.top_k(logits.all, ALTERNATIVES).ids
        greatest = float(logits.all[best[0]])
        mass = kernel.mass(logits.all, temperature, greatest)
        return Summary(math.nan, math.nan, greatest, mass, best)
    ids, z = ids[known], z[known]
    best = ids[np.lexsort((ids, -z))]
    greatest = float(z.max())
    with np.errstate(over="ignore"):
        rest *= math.exp((raw.greatest - greatest) / temperature)
    mass = rest + float(boltzmann.weights(logits.values, temperature, greatest=greatest).sum())
    return Summary(math.nan, math.nan, greatest, mass, best)
