"""Logits -> token, and the record of the distribution that it was drawn from.

The order is that of OpenAI, Hugging Face and vLLM: penalties, bias, temperature, then top-k, nucleus and
min-p, each on what the one before left. The draw is argmax(z / T + noise) over what is left.
"""

import math
from collections import Counter

import numpy as np
from jaxtyping import Float, Int

from thermoscope.engine.request import Sampling
from thermoscope.engine.trace import Alternative, Record
from thermoscope.errors import ThermoscopeError
from thermoscope.laws import boltzmann, noise, truncation
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
        self, row: Float[np.ndarray, "vocab"], position: int, tokenizer: Tokenizer | None
    ) -> tuple[int, Record | None]:
        """Choose the token at `position` of the answer. With a tokenizer, also record how."""
        raw = row.astype(np.float64)
        if not (np.isfinite(raw.max()) and np.isfinite(raw.min())):
            raise ThermoscopeError("logits: got NaN or infinity, expected numbers; the weights are damaged.")
        logits = self._penalised(raw)
        temperature = self._sampling.temperature
        kept = self._truncated(logits)
        if temperature == 0:
            token = int(logits.argmax())
        else:
            ids = np.arange(len(logits)) if kept is None else kept
            dice = noise.gumbel(self._seed, self._choice, position, ids)
            tempered = logits if kept is None else logits[kept]
            if temperature != 1:
                # Differences from the best: a small T would send logits themselves to infinity.
                with np.errstate(over="ignore"):
                    tempered = (tempered - tempered.max()) / temperature
            token = int(ids[(tempered + dice).argmax()])
        record = None if tokenizer is None else self._record(raw, logits, kept, token, tokenizer)
        self._said[token] += 1
        self._seen.add(token)
        return token, record

    def _penalised(self, raw: Float[np.ndarray, "vocab"]) -> Float[np.ndarray, "vocab"]:
        """Penalties, then bias; the same array where none is asked for."""
        sampling = self._sampling
        logits = raw
        if sampling.repetition_penalty != 1:
            logits = logits.copy()
            seen = np.fromiter(self._seen, dtype=np.int64)
            factor = np.where(logits[seen] > 0, 1 / sampling.repetition_penalty, sampling.repetition_penalty)
            logits[seen] *= factor
        if (sampling.presence_penalty or sampling.frequency_penalty) and self._said:
            logits = logits.copy()
            ids = np.fromiter(self._said.keys(), dtype=np.int64)
            counts = np.fromiter(self._said.values(), dtype=np.float64)
            logits[ids] -= sampling.presence_penalty + sampling.frequency_penalty * counts
        if sampling.logit_bias:
            logits = logits.copy()
            for token, bias in sampling.logit_bias.items():
                logits[token] += bias
        return logits

    def _truncated(self, logits: Float[np.ndarray, "vocab"]) -> Int[np.ndarray, "kept"] | None:
        """Ids that may be drawn, best first; None for all of them."""
        sampling = self._sampling
        kept: Int[np.ndarray, "kept"] | None = None
        if sampling.temperature == 0:
            return None
        if 0 < sampling.top_k < len(logits):
            kept = truncation.top_k(logits, sampling.top_k)
        if sampling.top_p < 1:
            inner = truncation.nucleus(
                logits if kept is None else logits[kept], sampling.top_p, sampling.temperature
            )
            kept = inner if kept is None else kept[inner]
        if sampling.min_p > 0:
            inner = truncation.min_p(
                logits if kept is None else logits[kept], sampling.min_p, sampling.temperature
            )
            kept = inner if kept is None else kept[inner]
        return kept

    def _record(
        self,
        raw: Float[np.ndarray, "vocab"],
        logits: Float[np.ndarray, "vocab"],
        kept: Int[np.ndarray, "kept"] | None,
        token: int,
        tokenizer: Tokenizer,
    ) -> Record:
        temperature = self._sampling.temperature
        weights = boltzmann.weights(raw)
        total = float(weights.sum())
        log_z = float(raw.max()) + math.log(total)
        best = truncation.top_k(raw, ALTERNATIVES)
        shown = np.append(best, token)
        same = logits is raw and temperature == 1
        tempered = weights if same else boltzmann.weights(logits, temperature)
        tempered_total = total if same else float(tempered.sum())
        mass = tempered_total if kept is None else float(tempered[kept].sum())
        drawn = tempered[shown] / mass
        if kept is not None:
            drawn = np.where(np.isin(shown, kept), drawn, 0.0)
        with np.errstate(divide="ignore"):
            sampler_logprobs = np.log(drawn).tolist()
        logprobs = (raw[shown] - log_z).tolist()
        count = len(logits) if kept is None else len(kept)
        return Record(
            logprob=logprobs[-1],
            sampler_logprob=sampler_logprobs[-1],
            entropy=boltzmann.entropy(raw, weights, total),
            log_z=log_z,
            kept=1 if temperature == 0 else count,
            removed_mass=max(0.0, 1 - mass / tempered_total),
            alternatives=tuple(
                Alternative(other, tokenizer.piece(other), logprob, sampler_logprob)
                for other, logprob, sampler_logprob in zip(
                    best.tolist(), logprobs[:-1], sampler_logprobs[:-1], strict=True
                )
            ),
        )
