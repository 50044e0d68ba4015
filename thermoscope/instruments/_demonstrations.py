"""The demonstrations in a prompt, and how far a state is from theirs."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from thermoscope.instruments.shape.reading import Column, Reading, Table
from thermoscope.laws.steering import off_subspace, similarity

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

FEWEST = 2  # that span anything
RANDOM, ROWS = 8, 512  # random prompts, and tokens of all of them at most

DISTANCES = (
    Column("state", "Which state at the chosen layer"),
    Column("distance", "To the flat through the demonstrations' states", "share of its length", ".4f"),
    Column("cosine", "With h_task, their mean", "cosine", ".4f"),
)


def positions(lab: "Lab", tokens: Sequence[int], first: int) -> list[int]:
    """Where the demonstrations before token `first` are answered: at the mark that the input ends with.

    The mark is the text's last word, if it is not all letters and digits: "->" or "A:". Empty without one.
    """
    piece = lab.model.tokenizer.piece
    ends, text = [], ""
    for token in tokens:
        text += piece(token)
        ends.append(len(text))
    mark = (text.split() or [""])[-1]
    if not mark or mark.isalnum():
        return []
    found, at = [], text.find(mark)
    while at >= 0:
        index = next(index for index, end in enumerate(ends) if end >= at + len(mark))
        if index < first and (at == 0 or text[at - 1].isspace()):
            found.append(index)
        at = text.find(mark, at + len(mark))
    return found


def distances(
    lab: "Lab",
    tokens: Sequence[int],
    first: int,
    layer: int,
    demonstrations: Float[np.ndarray, "shots hidden"],
    states: dict[str, Float[np.ndarray, "hidden"]],
) -> Reading:
    """How far the states are from the demonstrations', beside the same input after random tokens."""
    from thermoscope.instruments._arms import ends

    dice = random.Random(0)
    count = max(FEWEST, min(RANDOM, ROWS // len(tokens)))
    vocab = lab.model.config.vocab
    prompts = [[*(dice.randrange(vocab) for _ in range(first)), *tokens[first:]] for _ in range(count)]
    seen = [rows[layer].double().numpy() for _, _, rows in ends(lab, prompts, "random prompts", [layer])]
    strangers = np.concatenate(seen)
    task = demonstrations.mean(axis=0)
    every = [(name, state[None]) for name, state in states.items()] + [("after random tokens", strangers)]
    rows = [
        (name, float(np.mean(off_subspace(each, demonstrations))), float(np.mean(similarity(each, task))))
        for name, each in every
    ]
    return Reading(
        findings=[
            f"At layer {layer} the prompted state lies {rows[1][1]:.3f} of its length off the flat through "
            f"the {len(demonstrations)} demonstrations' states, the bare one {rows[0][1]:.3f}, and after "
            f"{count} prompts of random tokens it is {rows[2][1]:.3f} on average."
        ],
        tables=[Table("manifold", "The card's task manifold", DISTANCES, rows)],
    )
