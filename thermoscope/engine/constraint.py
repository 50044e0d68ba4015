"""Every answer that a grammar allows, and what the model makes of each: for a finite set, and a small one.

Answers are sequences of tokens: a text that the vocabulary can spell in two ways counts as two, as drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from thermoscope.engine.guide import Guide
from thermoscope.engine.replay import Place, chunks
from thermoscope.errors import InvalidRequest
from thermoscope.laws.constraint import Cost, cost
from thermoscope.models.distribution import log_z
from thermoscope.models.intervention import Intervention
from thermoscope.models.model import Model

MOST = 512  # beginnings of answers, each a row of a pass


@dataclass(frozen=True)
class Path:
    """One answer: its tokens, an end token last where one is drawn, and the ids allowed in place of each."""

    tokens: tuple[int, ...]
    allowed: tuple[Int[np.ndarray, "allowed"], ...]


@dataclass(frozen=True)
class Weight:
    """What the model makes of one answer, in nats: its log-probability, and the mask's work on the way."""

    tokens: tuple[int, ...]
    logprob: float
    work: float


def paths(guide: Guide, end_ids: frozenset[int], *, most: int = MOST) -> list[Path]:
    """Every answer that may follow, in an order in which neighbours begin alike.

    **Errors:** `InvalidRequest` where there are more than `most` beginnings of them.
    """
    found: list[Path] = []
    begun = 0

    def follow(at: Guide, tokens: tuple[int, ...], before: tuple[Int[np.ndarray, "allowed"], ...]) -> None:
        nonlocal begun
        ids = at.allowed()
        begun += len(ids)
        if begun > most:
            raise InvalidRequest(
                f"constraint: got a grammar whose answers have more than {most} beginnings, expected a small "
                "finite set, as of a choice or an enum; leave thermoscope.constraint out.",
                param="thermoscope.constraint",
            )
        for token in ids.tolist():
            path = Path((*tokens, token), (*before, ids))
            if token in end_ids:
                found.append(path)
                continue
            onward = at.copy()
            onward.accept(token)
            if onward.complete:
                found.append(path)
            else:
                follow(onward, path.tokens, path.allowed)

    follow(guide, (), ())
    return found


def weigh(
    model: Model, prompt: Sequence[int], every: Sequence[Path], interventions: Sequence[Intervention] = ()
) -> Iterator[list[Weight]]:
    """What the model makes of every answer to a prompt: what it takes to read the prompt, then one at a time.

    A beginning that neighbours share is run once.

    **Errors:** those of `replay`.
    """
    longest = max(len(path.tokens) for path in every)
    place = Place(model.cache(slots=1, context=len(prompt) + longest))
    rows: list[Tensor] = []  # the distributions along the path, each after so many of its tokens
    for part in chunks(
        model, prompt, logits=True, first=len(prompt) - 1, interventions=interventions, place=place
    ):
        assert part.logits is not None
        rows += part.logits
        yield []
    before: tuple[int, ...] = ()
    for path in every:
        shared = next((at for at, (a, b) in enumerate(zip(path.tokens, before, strict=False)) if a != b), 0)
        del rows[shared + 1 :]
        place.start = len(prompt) + shared
        place.cache.truncate(place.slot, place.start)
        known = [*prompt, *path.tokens[:-1]]
        for part in chunks(model, known, logits=True, interventions=interventions, place=place):
            assert part.logits is not None
            rows += part.logits
        yield [_weight(path, rows)]
        before = path.tokens


def summed(weights: Sequence[Weight]) -> Cost:
    """The cost of the constraint whose answers these are."""
    return cost(np.array([each.logprob for each in weights]), np.array([each.work for each in weights]))


def _weight(path: Path, rows: Sequence[Tensor]) -> Weight:
    logprob = work = 0.0
    for token, allowed, row in zip(path.tokens, path.allowed, rows, strict=True):
        whole = float(log_z(row[None]))
        logprob += float(row[token]) - whole
        work += max(0.0, whole - float(log_z(row[torch.from_numpy(allowed)][None])))
    return Weight(path.tokens, logprob, work)
