"""How much of what a prompt does for a task one vector does, judged on items that it was not made from.

Half of the training items give the vectors, the other half choose each method's layer and strength by the
mean log p of the target; then the items that are held out are asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from thermoscope.instruments import _pairs
from thermoscope.instruments._arms import Arm, Arms, ends, joined, judged
from thermoscope.instruments._vectors import METHODS, STRENGTHS, Method, Vectors, fitted
from thermoscope.laws import boltzmann, bootstrap, steering

if TYPE_CHECKING:
    from thermoscope.instruments._pairs import Item, Pair
    from thermoscope.instruments.shape.lab import Lab

CONTROLS = ("random", "shuffled labels")
AROUND = (-0.5, 0.0)  # strengths of the gradient beside those that are chosen from, for its curve


class Choice(NamedTuple):
    """Where a method acts, how strongly, and the mean log p of the target that it was chosen for, nats."""

    layer: int
    strength: float
    logprob: float


@dataclass(frozen=True)
class Measured:
    """What came of the items that are held out, and what was chosen before on others.

    - `arms`: "bare", "prompted", each method, and "method, control"; all with their KL to "prompted".
    - `by_layer`: method -> layer -> an arm, each at the strength that was best for that layer.
    - `by_strength`: the gradient at its layer.
    - `vectors`: of the training items; `items`: those that were held out.
    """

    items: "Sequence[Item]"
    fitted_on: int
    chosen_on: int
    choices: Mapping[Method, Choice]
    arms: Mapping[str, Arm]
    by_layer: Mapping[Method, Mapping[int, Arm]]
    by_strength: Mapping[float, Arm]
    vectors: Vectors
    states: Mapping[int, Float[np.ndarray, "items hidden"]]


def measure(
    lab: "Lab", train: "Sequence[Pair]", test: "Sequence[Pair]", *, shots: int, seed: int
) -> Measured:
    """Fit on `train`, judge by `test`."""
    half = len(train) // 2
    known = _pairs.items(lab, train, train, shots, seed)
    held = _pairs.items(lab, test, train, shots, seed + 1)
    made_from, chosen_on = known[:half], known[half:]
    real, shuffled = fitted(lab, made_from, Arms(lab, made_from, "reading training items"))
    every = _choices(lab, Arms(lab, chosen_on, "reading training items"), real)
    best = {method: max(every[method].values(), key=lambda choice: choice.logprob) for method in METHODS}

    prompted, after = _prompted(lab, held)
    arms = Arms(lab, held, "reading held-out items", after)
    found = {"bare": arms.bare, "prompted": prompted}
    for method in lab.track("steering", METHODS):
        layer, strength, _ = best[method]
        states = arms.states[layer]
        shifts = real.shifts(method, layer, strength, states)
        found[method] = arms.moved(layer, shifts, compared=True)
        directions = np.random.default_rng(seed).normal(size=states.shape)
        turned = shuffled.shifts(method, layer, strength, states)
        for control, other in zip(CONTROLS, (directions, turned), strict=True):
            found[f"{method}, {control}"] = arms.moved(
                layer, steering.of_equal_norm(shifts, other), compared=True
            )
    layers = range(lab.model.config.layers + 1)
    by_layer: dict[Method, dict[int, Arm]] = {method: {} for method in METHODS}
    for layer in lab.track("steering every layer", layers):
        for method in METHODS:
            shifts = real.shifts(method, layer, every[method][layer].strength, arms.states[layer])
            by_layer[method][layer] = arms.moved(layer, shifts)
    at = best["gradient"].layer
    by_strength = {
        strength: arms.moved(at, real.shifts("gradient", at, strength, arms.states[at]))
        for strength in lab.track("steering at every strength", (*AROUND, *STRENGTHS["gradient"]))
    }
    return Measured(
        held, len(made_from), len(chosen_on), best, found, by_layer, by_strength, real, arms.states
    )


def gain(
    measured: Measured, arm: Arm, less: Arm | None = None, *, seed: int = 0
) -> tuple[float | None, tuple[float, float] | None]:
    """The part of the prompt's gain in accuracy that an arm has, and its 95% interval over items.

    (right of the arm − right of `less`) / (right with the prompt − right without), sums over items; `less` is
    the bare arm unless given. None where the prompt gains nothing, and where some resample has it so.
    """
    bare, prompted = measured.arms["bare"].right, measured.arms["prompted"].right
    base = bare if less is None else less.right
    sums = np.stack([arm.right.astype(float) - base, prompted.astype(float) - bare], axis=1)
    return _ratio(sums, seed)


def recovered(
    measured: Measured, arm: Arm, *, seed: int = 0
) -> tuple[float | None, tuple[float, float] | None]:
    """1 − Σ KL(prompted ‖ arm) / Σ KL(prompted ‖ bare) with its interval; as in `gain`."""
    bare = measured.arms["bare"].kl
    assert bare is not None
    assert arm.kl is not None
    return _ratio(np.stack([bare - arm.kl, bare], axis=1), seed)


def _ratio(sums: Float[np.ndarray, "items 2"], seed: int) -> tuple[float | None, tuple[float, float] | None]:
    above, below = sums.sum(axis=0)
    if below <= 0:
        return None, None
    totals = bootstrap.resampled(sums, seed=seed)
    if (totals[:, 1] <= 0).any():
        return float(above / below), None
    return float(above / below), bootstrap.interval(totals[:, 0] / totals[:, 1])


def _choices(lab: "Lab", arms: Arms, vectors: Vectors) -> dict[Method, dict[int, Choice]]:
    """For every method and layer the strength with the greatest mean log p of the target."""
    found: dict[Method, dict[int, Choice]] = {method: {} for method in METHODS}
    for layer in lab.track("choosing layer and strength", range(lab.model.config.layers + 1)):
        for method in METHODS:
            tried = []
            for strength in STRENGTHS[method]:
                arm = arms.moved(layer, vectors.shifts(method, layer, strength, arms.states[layer]))
                tried.append(Choice(layer, strength, float(arm.logprob.mean())))
            found[method][layer] = max(tried, key=lambda choice: choice.logprob)
    return found


def _prompted(lab: "Lab", held: "Sequence[Item]") -> tuple[Arm, Float[np.ndarray, "items vocab"]]:
    """What the demonstrations make of the items that are held out."""
    arms, after = [], []
    for part, logits, _ in ends(lab, [item.prompted for item in held], "reading prompts"):
        log_p = boltzmann.log_probabilities(logits.double().numpy())
        arms.append(judged(held[part], logits, log_p))
        after.append(log_p.astype(np.float32))
    return joined(arms), np.concatenate(after)
