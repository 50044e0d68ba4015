"""What steering costs where the task is not asked for: −log p of plain text, every token of it steered."""

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from thermoscope.models.intervention import Patch

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

TOKENS = 256  # of the text that models/yardstick.py measures with, too

Shift = Callable[[Float[np.ndarray, "tokens hidden"]], Float[np.ndarray, "tokens hidden"]]


class Steered(NamedTuple):
    """At which layer, and what is added to the states that the layer finds."""

    layer: int
    shift: Shift


def losses(lab: "Lab", steered: dict[str, Steered]) -> dict[str, float]:
    """Mean −log p of the text's tokens in nats, as it is ("plain") and with every token steered.

    What a layer finds is not changed by steering at that layer, so the plain pass tells what to add.
    """
    text = (files("thermoscope.models") / "yardstick.txt").read_text(encoding="utf-8")
    tokens = lab.tokens(text[:4000])[:TOKENS]
    plain = lab.replay(tokens, keep=["residual"], layers={each.layer for each in steered.values()})
    found = {"plain": -float(plain.logprobs.mean())}
    for name, (layer, shift) in steered.items():
        states = plain.kept["residual", layer].double().numpy()
        rows = torch.from_numpy(states + shift(states)).float()
        patch = Patch(layer, range(len(tokens)), rows)
        found[name] = -float(lab.replay(tokens, interventions=[patch]).logprobs.mean())
    return found
