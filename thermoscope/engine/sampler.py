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
        self,
        row: Float[np.ndarray, "vocab"],
        position: int,
        tokenizer: Tokenizer | None,
        state: boltzmann.State | None = None,
    ) -> tuple[int, Record | None]:
        """Choose the token at `position` of the answer. With a tokenizer, also record how.

        `state`: that of the row, from a caller who computes it for many rows at once.
        """
        raw = row.astype(np.float64)
        if not np.isfinite(raw if state is None else state).all():
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
        record = None
        if tokenizer is not None:
            record = self._record(raw, state or boltzmann.state(raw), logits, kept, token, tokenizer)
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
        state: boltzmann.State,
        logits: Float[np.ndarray, "vocab"],
        kept: Int[np.ndarray, "kept"] | None,
        token: int,
        tokenizer: Tokenizer,
    ) -> Record:
        temperature = self._sampling.temperature
        log_z = float(state.log_z)
        best = truncation.top_k(raw, ALTERNATIVES)
        shown = np.append(best, token)
        logprobs = (raw[shown] - log_z).tolist()
        sampler_logprobs, removed = logprobs, 0.0
        if temperature == 0:
            sampler_logprobs = [0.0 if other == token else -math.inf for other in shown.tolist()]
        elif kept is not None or temperature != 1 or logits is not raw:
            weights = boltzmann.weights(logits, temperature)
            total = mass = float(weights.sum())
            drawn = weights[shown]
            if kept is not None:
                mass = float(weights[kept].sum())
                drawn, removed = np.where(np.isin(shown, kept), drawn, 0.0), max(0.0, 1 - mass / total)
            with np.errstate(divide="ignore"):
                sampler_logprobs = np.log(drawn / mass).tolist()
        count = len(logits) if kept is None else len(kept)
        return Record(
            logprob=logprobs[-1],
            sampler_logprob=sampler_logprobs[-1],
            entropy=float(state.entropy),
            log_z=log_z,
            kept=1 if temperature == 0 else count,
            removed_mass=removed,
            alternatives=tuple(
                Alternative(other, tokenizer.piece(other), logprob, sampler_logprob)
                for other, logprob, sampler_logprob in zip(
                    best.tolist(), logprobs[:-1], sampler_logprobs[:-1], strict=True
                )
            ),
        )
