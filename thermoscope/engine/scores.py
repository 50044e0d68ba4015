"""How a model scores a text that is given: each token's log-probability, and what could have stood there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from thermoscope.engine.replay import chunks
from thermoscope.laws import truncation
from thermoscope.models.distribution import log_z
from thermoscope.models.intervention import Intervention
from thermoscope.models.model import Model


@dataclass(frozen=True, slots=True)
class Score:
    """One token of a text. Log-probabilities in nats, of the model's own distribution.

    - `token`: its id. `logprob`: given those before it; None for the first, which follows nothing.
    - `best`: ids and log-probabilities of the most probable tokens in its place, best first.
    """

    token: int
    logprob: float | None
    best: tuple[tuple[int, float], ...] = ()


def scores(
    model: Model, tokens: Sequence[int], *, best: int = 0, interventions: Sequence[Intervention] = ()
) -> Iterator[list[Score]]:
    """Score every token, log p(tokens[i] | tokens[:i]), a chunk of one teacher-forced pass at a time.

    - `tokens`: ids. `best`: how many of the most probable tokens to name in each place.
    - `interventions`: what is changed on the way, as in `replay`.

    **Errors:** those of `replay`, and at once.
    """
    parts = chunks(model, tokens, logits=best > 0, interventions=interventions)

    def scored() -> Iterator[list[Score]]:
        first = [Score(tokens[0], None)]
        for part in parts:
            found, named = first, _best(part.logits, best) if part.logits is not None else None
            for row, logprob in enumerate(part.logprobs.tolist()):
                token = tokens[part.start + row + 1]
                found.append(Score(token, logprob, named[row] if named else ()))
            yield found
            first = []

    return scored()


def _best(logits: Float[torch.Tensor, "rows vocab"], count: int) -> list[tuple[tuple[int, float], ...]]:
    sums = log_z(logits).tolist()
    rows = []
    for row, total in zip(logits.float().numpy().astype(np.float64), sums, strict=True):
        ids = truncation.top_k(row, count).ids
        rows.append(tuple(zip(ids.tolist(), (row[ids] - total).tolist(), strict=True)))
    return rows
