"""Many sequences side by side, whose last tokens are run again and again with something changed inside.

All but their ends are run once. Then a question to all of them is one forward call of a few rows each, so
that trying hundreds of vectors takes seconds. The arithmetic is the engine's own; a row of the native step
has the same bits in any company.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from thermoscope.errors import ContextExceeded, InvalidRequest, UnsupportedModel
from thermoscope.models.adapter import Adapter
from thermoscope.models.cache import Span
from thermoscope.models.intervention import Intervention, Overwrite, check
from thermoscope.models.model import Model
from thermoscope.models.probe import Probe


class Last(NamedTuple):
    """What stands at each sequence's last token: what follows it, and the stream that each layer found."""

    logits: Float[Tensor, "sequences vocab"]
    states: dict[int, Float[Tensor, "sequences hidden"]]


class Batch:
    """Sequences whose last `tail` tokens are run again; what stands before is run once, and shared.

    A call takes all sequences at once: a hundred short ones, or a few long ones.

    **Errors:** `InvalidRequest` for a sequence of no more than `tail` − 1 tokens, or an unknown token;
    `ContextExceeded`.
    """

    def __init__(self, model: Model, sequences: Sequence[Sequence[int]], *, tail: int = 1) -> None:
        _check(model, sequences, tail)
        self._model, self._sequences, self._tail = model, [tuple(each) for each in sequences], tail
        self._cache = model.cache(slots=len(sequences), context=max(map(len, sequences)))
        self._spans = [
            Span(slot, len(sequence) - tail, tail) for slot, sequence in enumerate(self._sequences)
        ]
        self._begin()

    def run(
        self, changes: Sequence[Sequence[Intervention]] | None = None, *, layers: Collection[int] = ()
    ) -> Last:
        """Every sequence's last token, each sequence with its own interventions on its tail.

        - `layers`: whose stream to keep, 0 to the number of layers, which is the one before the final norm.

        **Errors:** `InvalidRequest` for an intervention that does not fit, or an `Overwrite`.
        """
        for sequence, interventions in zip(self._sequences, changes or (), strict=changes is not None):
            check(interventions, len(sequence), self._model.config)
            if any(isinstance(each, Overwrite) for each in interventions):
                raise InvalidRequest(
                    "overwrite: got one in a batch, whose calls share one memory; expected it in a replay."
                )
        states: dict[int, Tensor] = {}

        def see(_quantity: str, layer: int, rows: Tensor) -> None:
            states[layer] = rows[self._tail - 1 :: self._tail].clone()

        probe = Probe(see, lambda quantity, layer: quantity == "residual" and layer in layers)
        tails = [token for sequence in self._sequences for token in sequence[-self._tail :]]
        with torch.inference_mode():
            rows = self._model.decoder.forward(
                tails, self._spans, self._cache, probe if layers else None,
                None if changes is None else dict(enumerate(changes)),
            )  # fmt: skip
            return Last(self._model.decoder.logits(rows[self._tail - 1 :: self._tail]), states)

    @torch.inference_mode()
    def onward(
        self, layer: int, states: Float[Tensor, "sequences hidden"]
    ) -> Float[Tensor, "sequences vocab"]:
        """The logits with these states in place of what a layer finds at each last token.

        The same as `run` with a `Patch` for each, of a tail of one, in the time of the layers from there on.

        **Errors:** `UnsupportedModel` for a model that runs through transformers.
        """
        decoder = self._model.decoder
        if isinstance(decoder, Adapter):
            raise UnsupportedModel(
                f"steering: got a {decoder.config.family}, which runs through transformers; expected a "
                "family that this decoder knows."
            )
        return decoder.logits(decoder.onward(layer, states, self._spans, self._cache))

    def _begin(self) -> None:
        """Fill the cache with all but the tails, in one call."""
        heads = [sequence[: len(sequence) - self._tail] for sequence in self._sequences]
        first = {head: slot for slot, head in reversed(list(enumerate(heads))) if head}
        if first:
            spans = [Span(slot, 0, len(head)) for head, slot in first.items()]
            with torch.inference_mode():
                tokens = [token for head in first for token in head]
                self._model.decoder.forward(tokens, spans, self._cache)
        for slot, head in enumerate(heads):
            if head and first[head] != slot:
                self._cache.copy(first[head], slot, len(head))


def _check(model: Model, sequences: Sequence[Sequence[int]], tail: int) -> None:
    config = model.config
    if not sequences:
        raise InvalidRequest("sequences: got none, expected at least one.")
    for sequence in sequences:
        if len(sequence) < tail:
            raise InvalidRequest(f"sequence: got {len(sequence)} tokens, expected at least {tail}.")
        if outside := [token for token in sequence if not 0 <= token < config.vocab]:
            raise InvalidRequest(
                f"sequence: got token id {outside[0]}, expected 0 to {config.vocab - 1}, the vocabulary."
            )
        if len(sequence) > config.context:
            raise ContextExceeded(f"context: got {len(sequence)} tokens, expected at most {config.context}.")
