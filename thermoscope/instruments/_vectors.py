"""The vectors that a task's training items give, layer by layer, and what each does to a state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import Float

from thermoscope.instruments._arms import Arms, ends
from thermoscope.laws import steering

if TYPE_CHECKING:
    from thermoscope.instruments._pairs import Item
    from thermoscope.instruments.shape.lab import Lab

Method = Literal["gradient", "task vector", "mean difference"]
METHODS: tuple[Method, ...] = get_args(Method)
STRENGTHS: dict[Method, tuple[float, ...]] = {
    "gradient": (0.125, 0.25, 0.5, 1.0, 2.0),  # of ‖β∇‖, in lengths of the mean state
    "task vector": (1.0,),
    "mean difference": (0.5, 1.0, 2.0),
}
TOGETHER = 32  # items whose gradients are taken in one sweep

States = Float[np.ndarray, "items hidden"]
Vector = Float[np.ndarray, "hidden"]


@dataclass(frozen=True)
class Vectors:
    """Of every layer: h_task, the mean bare state, and the mean gradient; from prompts with demonstrations.

    `unit`: γ that makes ‖β∇‖ as long as the mean state, for a state that is like the task's.
    """

    task: Mapping[int, Vector]
    bare: Mapping[int, Vector]
    gradient: Mapping[int, Vector]

    def unit(self, layer: int) -> float:
        """γ whose β∇ is as long as the mean bare state."""
        return float(np.linalg.norm(self.bare[layer]) / np.linalg.norm(self.gradient[layer]))

    def shifts(self, method: Method, layer: int, strength: float, states: States) -> States:
        """What a method adds to states."""
        task = self.task[layer]
        match method:
            case "gradient":
                gamma = strength * self.unit(layer)
                return steering.shift(states, task, self.gradient[layer], gamma)
            case "task vector":
                return np.asarray(task - states)
            case "mean difference":
                return np.broadcast_to(strength * (task - self.bare[layer]), states.shape)


def fitted(lab: "Lab", items: "Sequence[Item]", arms: Arms) -> tuple[Vectors, Vectors]:
    """The vectors of these items, and those of the same with their labels shuffled."""
    layers = range(lab.model.config.layers + 1)
    bare = {layer: arms.states[layer].mean(axis=0) for layer in layers}
    targets = [item.target for item in items]
    found = []
    for prompts, aims in (
        ([item.prompted for item in items], targets),
        ([item.shuffled for item in items], targets[1:] + targets[:1]),
    ):
        states: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
        for _, _, seen in ends(lab, prompts, "reading prompts", layers):
            for layer in layers:
                states[layer].append(seen[layer].double().numpy())
        task = {layer: np.concatenate(each).mean(axis=0) for layer, each in states.items()}
        found.append(Vectors(task, bare, _gradient(lab, [item.bare for item in items], aims)))
    return found[0], found[1]


def _gradient(lab: "Lab", prompts: Sequence[tuple[int, ...]], targets: Sequence[int]) -> dict[int, Vector]:
    """The mean of ∂ log p(target) / ∂h at the last token, of every layer."""
    from thermoscope.engine.gradient import gradients
    from thermoscope.models.exact import Exact

    pairs = [(prompt, [target]) for prompt, target in zip(prompts, targets, strict=True)]
    parts = [pairs[start : start + TOGETHER] for start in range(0, len(pairs), TOGETHER)]
    every = [
        {layer: rows[-1].double().numpy() for layer, rows in each.by_layer.items()}
        for part in lab.track("differentiating", parts)
        for each in lab.call(lambda model, part=part: gradients(Exact(model.decoder), part))  # type: ignore[misc]
    ]
    return {layer: np.mean([each[layer] for each in every], axis=0) for layer in every[0]}
