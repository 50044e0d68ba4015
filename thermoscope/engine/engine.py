"""The decoding loop: requests in, deltas out, one forward pass a step."""

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from thermoscope.engine.guide import Guides
from thermoscope.engine.prefixes import Prefixes
from thermoscope.engine.request import ALTERNATIVES, Request
from thermoscope.engine.scheduler import Scheduler, reach
from thermoscope.engine.sequence import Delta, Sequence
from thermoscope.errors import ContextExceeded, InvalidRequest, ThermoscopeError
from thermoscope.models.distribution import Summary, summarise
from thermoscope.models.fused import Fused
from thermoscope.models.intervention import check
from thermoscope.models.model import Model

__all__ = ["Delta", "Engine", "Generation"]


@dataclass(eq=False, frozen=True)
class Generation:
    """A submitted request: its n answers."""

    request: Request
    sequences: tuple[Sequence, ...]


class Engine:
    """Runs requests on one model, many at a time. Not thread-safe: `engine.runner` gives it a thread.

    - `slots`: answers decoded at once; further ones wait. `context`: tokens of a sequence at most.
    - `watch`: told the name of each part of a step as the part ends, for who sets it: `python`, `layers`,
      `head`, `sampler`. What lies between two steps is the first `python` of the second.
    """

    def __init__(self, model: Model, *, slots: int, context: int) -> None:
        self.model = model
        self.context = context
        self.cache = model.cache(slots=slots, context=context)
        self.scheduler = Scheduler(Prefixes(self.cache), reach=reach(model.config), whole=_whole(model))
        self.guides = Guides(model.tokenizer, model.config.vocab)
        self.watch: Callable[[str], None] | None = None
        self._arrivals = itertools.count()
        self._next: tuple[Model, int] | None = None  # to be adopted, and its threads

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""
        return bool(self.scheduler.waiting) or any(self.scheduler.running)

    def prepare(self, request: Request) -> Generation:
        """Check a request against the model and make its answers; nothing is queued yet.

        **Errors:** `InvalidRequest`, `ContextExceeded`.
        """
        sampling, room = request.sampling, self.context - len(request.prompt)
        if not request.prompt:
            raise InvalidRequest("prompt: got no tokens, expected at least one.", param="messages")
        if room < 1 or room < (sampling.max_tokens or 0):
            wanted = f" and {sampling.max_tokens} of the answer" if sampling.max_tokens else ""
            raise ContextExceeded(
                f"context: got {len(request.prompt)} tokens of the prompt{wanted}, expected at most "
                f"{self.context} in all; shorten the prompt or lower max_tokens."
            )
        vocab = self.model.config.vocab
        for param, ids in (
            ("prompt", request.prompt), ("logit_bias", sampling.logit_bias), ("stop_ids", sampling.stop_ids),
            ("dry_breakers", sampling.dry_breakers),
        ):  # fmt: skip
            if any(not 0 <= token < vocab for token in ids):
                bad = next(token for token in ids if not 0 <= token < vocab)
                raise InvalidRequest(
                    f"{param}: got token id {bad}, expected 0 to {vocab - 1}, the model's vocabulary.",
                    param=param,
                )
        check(request.steer, self.context, self.model.config)
        if request.grammar is not None and sampling.ignore_eos:
            raise InvalidRequest(
                "ignore_eos: got true beside a grammar, expected false, for the grammar says where the "
                "answer ends; leave one of them out.",
                param="ignore_eos",
            )
        seed = secrets.randbits(63) if sampling.seed is None else sampling.seed
        return Generation(
            request,
            tuple(
                Sequence.of(
                    request,
                    choice=choice,
                    seed=seed,
                    limit=sampling.max_tokens or room,
                    model=self.model.name,
                    precision=self.model.precision,
                    guide=None if request.grammar is None else self.guides.guide(request.grammar),
                )
                for choice in range(sampling.n)
            ),
        )

    def submit(self, generation: Generation) -> None:
        """Queue a prepared request."""
        for sequence in generation.sequences:
            sequence.arrival = next(self._arrivals)
        self.scheduler.add(generation.sequences)

    def cancel(self, generation: Generation) -> None:
        """Drop what is left of a request, and free its slots."""
        for sequence in generation.sequences:
            self.scheduler.remove(sequence)

    def adopt(self, model: Model, *, threads: int) -> None:
        """Go on with the same model in another packing, as soon as no answer is under way."""
        self._next = (model, threads)
        self._exchange()

    @torch.inference_mode()
    def step(self) -> list[tuple[Sequence, Delta | ThermoscopeError]]:
        """One forward pass: a token for every answer that is decoding, a chunk of a prompt for another.

        An answer whose grammar turns out to be too much, or whose logits are no numbers, ends with an error.
        """
        self._exchange()
        batch = self.scheduler.next()
        spans = [sequence.span(at_most) for sequence, at_most in batch]
        tokens = [
            token
            for (sequence, _), span in zip(batch, spans, strict=True)
            for token in sequence.tokens[span.start : span.start + span.count]
        ]
        steered = {
            span.slot: sequence.request.steer
            for (sequence, _), span in zip(batch, spans, strict=True)
            if sequence.request.steer
        }
        self._note("python")
        hidden = self.model.decoder.forward(tokens, spans, self.cache, None, steered or None)
        self._note("layers")
        speaking, rows, row = [], [], -1
        for (sequence, _), span in zip(batch, spans, strict=True):
            row += span.count
            sequence.filled += span.count
            if sequence.pending == 0:
                speaking.append(sequence)
                rows.append(row)
        if not speaking:
            return []
        # While all speak nothing is picked: PyTorch's indexing is among the slowest of a step's Python.
        logits = self.model.decoder.logits(hidden if len(rows) == len(hidden) else hidden[rows])
        self._note("head")
        temperatures = [sequence.sampler.temperature for sequence in speaking]
        summaries = summarise(logits, temperatures, best=ALTERNATIVES)
        deltas = [
            (sequence, self._spoken(sequence, row, summary))
            for sequence, row, summary in zip(speaking, logits.numpy(), summaries, strict=True)
        ]
        for sequence, delta in deltas:
            if isinstance(delta, ThermoscopeError) or delta.finish_reason:
                self.scheduler.remove(sequence)
        return deltas

    def _spoken(
        self, sequence: Sequence, logits: Float[np.ndarray, "vocab"], summary: Summary
    ) -> Delta | ThermoscopeError:
        try:
            return self._speak(sequence, logits, summary)
        except ThermoscopeError as error:
            return error

    def _speak(self, sequence: Sequence, logits: Float[np.ndarray, "vocab"], summary: Summary) -> Delta:
        allowed = None if sequence.guide is None else sequence.guide.allowed()
        tokenizer = self.model.tokenizer
        position = len(sequence.trace.steps)
        recorder = tokenizer if sequence.request.record else None
        token, record = sequence.sampler.draw(logits, position, recorder, summary, allowed)
        self._note("sampler")
        delta = sequence.accept(token, record, tokenizer, entropy=summary.entropy)
        self._note("python")
        return delta

    def _note(self, part: str) -> None:
        if self.watch is not None:
            self.watch(part)

    def _exchange(self) -> None:
        if self._next is not None and not any(self.scheduler.running):
            model, threads = self._next
            cache = model.cache(slots=self.cache.slots, context=self.context)
            model.run_on(threads)
            self.model, self.cache, self._next = model, cache, None
            self.scheduler.prefixes, self.scheduler.whole = Prefixes(cache), _whole(model)


def _whole(model: Model) -> bool:
    """Whether a row's numbers depend on its company, as through a library's products; a prompt's need not."""
    return not isinstance(model.decoder, Fused)
