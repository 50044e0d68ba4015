"""Logits -> token, and the record of the distribution that it was drawn from.

The order is that of OpenAI, Hugging Face and vLLM: penalties, bias, temperature, then top-k, nucleus and
min-p, each on what the one before left. The draw is argmax(z / T + noise) over what is left.
"""

import math
from collections import Counter

import numpy as np
import torch
from jaxtyping import Float, Int

from thermoscope.engine.request import Sampling
from thermoscope.engine.trace import Alternatives, Drawn, Record
from thermoscope.errors import ThermoscopeError
from thermoscope.laws import boltzmann, noise, truncation
from thermoscope.models.distribution import Summary, draw, summarise
from thermoscope.models.tokenizer import Tokenizer

ALTERNATIVES = 20


class Sampler:
    """Draws one answer's tokens. It remembers what was said, for the penalties; the noise needs nothing."""

    def __init__(self, sampling: Sampling, *, seed: int, choice: int, prompt: tuple[int, ...]) -> None:
        self._sampling = sampling
        self._seed = seed
        self._choice = choice
        self._said: Counter[int] = Counter()
        self._seen = set(prompt)

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
        temperature = self._sampling.temperature
        row = np.ascontiguousarray(row, dtype=np.float32)
        raw = summary or summarise(torch.from_numpy(row)[None], [temperature], best=ALTERNATIVES)[0]
        if not math.isfinite(raw.entropy):
            raise ThermoscopeError("logits: got NaN or infinity, expected numbers; the weights are damaged.")
        logits, asked = row, raw
        if self._adjusts:
            logits = self._adjusted(row)
            asked = _summary(logits, temperature)
        kept = self._kept(logits, asked)
        if temperature == 0:
            token = int(asked.best[0])
        elif kept is None and logits is row:
            token = draw(row, raw.greatest, temperature, noise.key(self._seed, self._choice, position))
        else:
            ids = np.arange(len(logits)) if kept is None else kept
            dice = noise.gumbel(self._seed, self._choice, position, ids)
            # Differences from the best: a small T would send logits themselves to infinity.
            with np.errstate(over="ignore"):
                tempered = (logits[ids].astype(np.float64) - asked.greatest) / temperature
            token = int(ids[(tempered + dice).argmax()])
        record = None if tokenizer is None else self._record(row, raw, logits, asked, kept, token, tokenizer)
        self._said[token] += 1
        self._seen.add(token)
        return token, record

    @property
    def temperature(self) -> float:
        """T of the draws."""
        return self._sampling.temperature

    @property
    def _adjusts(self) -> bool:
        """Whether a penalty or a bias changes the logits of the next draw."""
        sampling = self._sampling
        counted = (sampling.presence_penalty or sampling.frequency_penalty) and self._said
        return bool(sampling.repetition_penalty != 1 or counted or sampling.logit_bias)

    def _adjusted(self, row: Float[np.ndarray, "vocab"]) -> Float[np.ndarray, "vocab"]:
        """Penalties, then bias."""
        sampling = self._sampling
        logits: Float[np.ndarray, "vocab"] = row.astype(np.float64)
        if sampling.repetition_penalty != 1:
            seen = np.fromiter(self._seen, dtype=np.int64)
            factor = np.where(logits[seen] > 0, 1 / sampling.repetition_penalty, sampling.repetition_penalty)
            logits[seen] *= factor
        if self._said:
            ids = np.fromiter(self._said.keys(), dtype=np.int64)
            counts = np.fromiter(self._said.values(), dtype=np.float64)
            logits[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        for token, bias in sampling.logit_bias.items():
            logits[token] += bias
        return logits

    def _kept(self, logits: Float[np.ndarray, "vocab"], asked: Summary) -> Int[np.ndarray, "kept"] | None:
        """Ids that may be drawn, best first; None for all of them."""
        sampling = self._sampling
        top_k = sampling.top_k if sampling.top_k < len(logits) else 0
        if sampling.temperature == 0 or not (top_k or sampling.top_p < 1 or sampling.min_p > 0):
            return None
        # What is kept are the best; where they are fewer than those in hand, nothing else needs a look.
        if top_k <= len(asked.best):
            inner = self._truncated(logits[asked.best].astype(np.float64), top_k, asked.mass)
            if len(inner) < len(asked.best):
                best: Int[np.ndarray, "kept"] = asked.best[inner]
                return best
        return self._truncated(logits.astype(np.float64), top_k, asked.mass)

    def _truncated(
        self, logits: Float[np.ndarray, "some"], top_k: int, mass: float
    ) -> Int[np.ndarray, "kept"]:
        """Top-k (0: all), nucleus and min-p of the greatest logits of a distribution of this mass."""
        sampling = self._sampling
        kept: Int[np.ndarray, "kept"] = np.arange(len(logits))
        weight: float | None = mass
        if top_k:
            kept, weight = truncation.top_k(logits, top_k).ids, None
        if sampling.top_p < 1:
            kept = kept[
                truncation.nucleus(logits[kept], sampling.top_p, sampling.temperature, mass=weight).ids
            ]
        if sampling.min_p > 0:
            kept = kept[truncation.min_p(logits[kept], sampling.min_p, sampling.temperature).ids]
        return kept

    def _record(
        self,
        row: Float[np.ndarray, "vocab"],
        raw: Summary,
        logits: Float[np.ndarray, "vocab"],
        asked: Summary,
        kept: Int[np.ndarray, "kept"] | None,
        token: int,
        tokenizer: Tokenizer,
    ) -> Record:
        temperature, mass = self._sampling.temperature, asked.mass
        edge, count = None, len(logits)
        if temperature == 0:
            edge, mass, count = (float(logits[token]), token), 1.0, 1
        elif kept is not None:
            inside = logits[kept].astype(np.float64)
            mass = float(boltzmann.weights(inside, temperature, greatest=asked.greatest).sum())
            edge, count = (float(inside[-1]), int(kept[-1])), len(kept)
        drawn = Drawn(temperature, asked.greatest, mass, edge)
        best = row[raw.best]
        return Record(
            logprob=float(row[token]) - raw.log_z,
            sampler_logprob=drawn.logprob(float(logits[token]), token),
            entropy=raw.entropy,
            log_z=raw.log_z,
            kept=count,
            removed_mass=0.0 if kept is None else max(0.0, 1 - mass / asked.mass),
            alternatives=Alternatives(
                raw.best, best, best if logits is row else logits[raw.best], raw.log_z, drawn, tokenizer.piece
            ),
        )


def _summary(logits: Float[np.ndarray, "vocab"], temperature: float) -> Summary:
    """Of logits that penalties or a bias changed; what a record says of the model comes from the raw ones."""
    mass = float(boltzmann.weights(logits, temperature or 1.0).sum())
    best = truncation.top_k(logits, ALTERNATIVES).ids
    return Summary(math.nan, math.nan, float(logits[best[0]]), mass, best)
