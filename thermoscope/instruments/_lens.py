"""What a prompt does to the residual stream, layer by layer, and where the answer first appears in it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Cell, Column, Reading, Table
from thermoscope.laws import boltzmann, steering

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

SHIFT = (
    Column("layer", "Whose stream; the number of layers is before the final norm"),
    Column("shift", "‖h prompted − h bare‖ in lengths of h bare", "share", ".3f"),
    Column("cosine", "Between the two", "cosine", ".4f"),
    Column("bare", "Best token of the logit lens without the prompt", form="r"),
    Column("prompted", "and with it", form="r"),
    Column("logprob_bare", "log p of the target's first token in the lens, without", "nats", ".3f"),
    Column("logprob_prompted", "and with the prompt", "nats", ".3f"),
)


class Two(NamedTuple):
    """The input alone and after the prompt: logits, and layer -> the stream at the last token."""

    bare: Float[np.ndarray, "vocab"]
    prompted: Float[np.ndarray, "vocab"]
    bare_states: Mapping[int, Float[np.ndarray, "hidden"]]
    prompted_states: Mapping[int, Float[np.ndarray, "hidden"]]


def by_layer(lab: "Lab", two: Two, target: int) -> Reading:
    """Shift, cosine and logit lens of every layer."""
    layers = sorted(two.bare_states)
    lens = []
    for states in (two.bare_states, two.prompted_states):
        rows = torch.stack([torch.from_numpy(states[layer]) for layer in layers]).float()
        with torch.inference_mode():
            logits = lab.call(lambda model, rows=rows: model.decoder.logits(rows))  # type: ignore[misc]
        lens.append(boltzmann.log_probabilities(logits.double().numpy()))
    best = [each.argmax(axis=1) for each in lens]
    piece = lab.model.tokenizer.piece
    rows_: list[tuple[Cell, ...]] = []
    for at, layer in enumerate(layers):
        bare, prompted = two.bare_states[layer], two.prompted_states[layer]
        moved = float(np.linalg.norm(prompted - bare) / np.linalg.norm(bare))
        cosine = float(steering.similarity(prompted, bare))
        texts = [piece(int(each[at])) for each in best]
        rows_.append((layer, moved, cosine, *texts, *(float(each[at, target]) for each in lens)))
    appears = next((layer for at, layer in enumerate(layers) if best[1][at] == target), None)
    found = (
        f"{piece(target)!r} is first the best of the logit lens at layer {appears}."
        if appears is not None
        else f"{piece(target)!r} is the best of the logit lens at no layer."
    )
    curves = zip(lens, ("without the prompt", "with the prompt"), strict=True)
    return Reading(
        findings=[found],
        tables=[Table("layers", "The prompt's shift of the stream at the last token", SHIFT, rows_)],
        figures=[
            Figure(
                "lens",
                f"Where does {piece(target)!r} appear?",
                [line(layers, each[:, target].tolist(), name) for each, name in curves],
                axes("layer", "log p of the logit lens, nats"),
            )
        ],
    )  # fmt: skip
