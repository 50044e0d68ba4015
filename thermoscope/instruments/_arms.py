"""What comes of items when their last state is moved: right or not, log p of the target, and how far off."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from thermoscope.engine.batch import Batch
from thermoscope.laws import boltzmann, divergence
from thermoscope.models.distribution import summarise

if TYPE_CHECKING:
    from thermoscope.instruments._pairs import Item
    from thermoscope.instruments.shape.lab import Lab

ROWS = 400  # of one forward call, about: so long do other people's tokens wait


class Arm(NamedTuple):
    """One way of asking, item by item.

    - `right`: whether the target's first token is the best. `logprob`: of that token, nats.
    - `kl`: KL(prompted ‖ this), nats; None where it was not asked for.
    """

    right: Bool[np.ndarray, "items"]
    logprob: Float[np.ndarray, "items"]
    kl: Float[np.ndarray, "items"] | None = None


class Arms:
    """Items without a prompt, run again and again with their last state moved.

    - `prompted`: what the prompt makes of them, to be compared with; None compares nothing.
    - `states`: layer -> [items, hidden], the stream at the last token. `bare`: the items as they are.
    """

    def __init__(
        self,
        lab: "Lab",
        items: "Sequence[Item]",
        what: str,
        prompted: "Float[np.ndarray, 'items vocab'] | None" = None,
    ) -> None:
        self._lab, self._items, self._prompted = lab, items, prompted
        self._batches: list[tuple[slice, Batch]] = []
        layers = range(lab.model.config.layers + 1)
        found: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
        logits = []
        sequences = [item.bare for item in items]
        for part in lab.track(what, grouped(sequences)):
            batch = lab.call(partial(Batch, sequences=sequences[part]))
            last = lab.call(lambda _, batch=batch: batch.run(layers=layers))  # type: ignore[misc]
            self._batches.append((part, batch))
            logits.append(last.logits)
            for layer in layers:
                found[layer].append(last.states[layer].double().numpy())
        self.states = {layer: np.concatenate(each) for layer, each in found.items()}
        self.bare = self._arm(logits, compared=prompted is not None)

    def moved(self, layer: int, shifts: Float[np.ndarray, "items hidden"], *, compared: bool = False) -> Arm:
        """The items with `shifts` added to the stream that a layer finds at the last token."""
        rows = torch.from_numpy(self.states[layer] + shifts).float()
        logits = []
        for part, batch in self._batches:
            some = rows[part]
            logits.append(self._lab.call(lambda _, b=batch, s=some: b.onward(layer, s)))  # type: ignore[misc]
        return self._arm(logits, compared=compared)

    def _arm(self, logits: "Sequence[torch.Tensor]", *, compared: bool) -> Arm:
        reference = self._prompted if compared else None
        return joined(
            [
                judged(self._items[part], rows, None if reference is None else reference[part])
                for (part, _), rows in zip(self._batches, logits, strict=True)
            ]
        )


def judged(
    items: "Sequence[Item]", logits: "torch.Tensor", prompted: Float[np.ndarray, "items vocab"] | None = None
) -> Arm:
    """Rows of logits against the items' targets, and against the prompted distributions if they are given."""
    targets = np.array([item.target for item in items])
    rows = summarise(logits, [1.0] * len(items), best=1)
    scores = logits[torch.arange(len(items)), torch.from_numpy(targets)].double().numpy()
    kl = None
    if prompted is not None:
        kl = divergence.kl(prompted, boltzmann.log_probabilities(logits.double().numpy()))
    best = np.array([int(row.best[0]) for row in rows])
    return Arm(best == targets, scores - np.array([row.log_z for row in rows]), kl)


def joined(arms: Sequence[Arm]) -> Arm:
    """Arms of several groups of items as one."""
    kls = [arm.kl for arm in arms if arm.kl is not None]
    return Arm(
        np.concatenate([arm.right for arm in arms]),
        np.concatenate([arm.logprob for arm in arms]),
        np.concatenate(kls) if kls else None,
    )


def ends(
    lab: "Lab", sequences: Sequence[Sequence[int]], what: str, layers: Sequence[int] = ()
) -> Iterator[tuple[slice, "torch.Tensor", Mapping[int, "torch.Tensor"]]]:
    """The logits after sequences, and the stream at their last tokens, a group of them at a time."""
    for part in lab.track(what, grouped(sequences)):
        batch = lab.call(partial(Batch, sequences=sequences[part]))
        last = lab.call(lambda _, batch=batch: batch.run(layers=layers))  # type: ignore[misc]
        yield part, last.logits, last.states


def grouped(sequences: Sequence[Sequence[int]]) -> list[slice]:
    """Neighbours that are run together, of about `ROWS` tokens and never more than 64 sequences."""
    parts, start, rows = [], 0, 0
    for end, sequence in enumerate(sequences):
        if end > start and (rows + len(sequence) > ROWS or end - start == 64):
            parts.append(slice(start, end))
            start, rows = end, 0
        rows += len(sequence)
    return [*parts, slice(start, len(sequences))]
