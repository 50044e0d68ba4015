"""The card's formula for one case, with the item's own target: an oracle, which no other item's vector is."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from thermoscope.errors import InvalidRequest
from thermoscope.instruments._lens import Two
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.laws import boltzmann, divergence, steering

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.models.exact import Exact
    from thermoscope.models.model import Model

STRENGTHS = tuple(2.0**power for power in range(-6, 3))  # of ‖β∇‖, in lengths of h
STEP, SLOPE = 0.05, 0.02  # nats that the finite difference moves log p by, and what float32 may be off by

ORACLE = (
    Column("layer", "Whose stream is steered"),
    Column("gradient", "‖∇_task‖", "nats a unit", ".5g"),
    Column("similarity", "sim(h, h_task)", "cosine", ".4f"),
    Column("gamma", "γ", "units² a nat", ".5g"),
    Column("beta", "β = γ·sim", "units² a nat", ".5g"),
    Column("relative", "‖β∇‖ in lengths of h", "share", ".4f"),
    Column("recovered", "1 − KL(prompted‖steered) / KL(prompted‖bare)", "share", ".4f"),
    Column("kl", "KL(prompted‖steered)", "nats", ".4f"),
)
SIDE = (
    Column("token", "The token's text", form="r"),
    Column("bare", "P(y | x)", "probability", ".5f"),
    Column("prompted", "P(y | prompt, x)", "probability", ".5f"),
    Column("steered", "softmax(f(h + β∇)/τ), an oracle", "probability", ".5f"),
)
CURVE = (
    Column("relative", "‖β∇‖ in lengths of h"),
    Column("gamma", "γ", "units² a nat", ".5g"),
    Column("recovered", "1 − KL(prompted‖steered) / KL(prompted‖bare)", "share", ".4f"),
    Column("logprob", "log p of the target's first token", "nats", ".4f"),
)


def oracle(
    lab: "Lab",
    tokens: Sequence[int],
    target: Sequence[int],
    two: Two,
    task: Float[np.ndarray, "hidden"],
    *,
    layer: int,
    gamma: float | None,
    temperature: float,
    top: int,
) -> Reading:
    """Steer the bare input at a layer along its own gradient, and compare with what the prompt does.

    `task`: h_task at that layer. `gamma`: None takes the best of `STRENGTHS`.
    """
    lab.progress("differentiating", 0, 1)
    slope, gradient, squared = lab.call(partial(_gradient, tokens=tokens, target=target, layer=layer))
    lab.progress("differentiating", 1, 1)
    state = two.bare_states[layer]
    similar, size = float(steering.similarity(state, task)), float(np.linalg.norm(gradient))
    if similar == 0 or size == 0:
        raise InvalidRequest(
            f"layer: got {layer}, where β∇ is 0 for every γ; expected a layer that the target depends on.",
            param="layer",
        )
    unit = float(np.linalg.norm(state)) / (size * abs(similar))
    gammas = [unit * strength for strength in STRENGTHS] if gamma is None else [gamma]
    shifts = np.stack([steering.shift(state, task, gradient, each) for each in gammas])
    logits, last = _steered(lab, tokens, layer, state + shifts, two)
    bare, prompted = (boltzmann.log_probabilities(each, temperature) for each in (two.bare, two.prompted))
    steered = boltzmann.log_probabilities(logits, temperature)
    shares = [steering.recovered(prompted, each, bare) for each in steered]
    best = int(np.argmax([-np.inf if share is None else share for share in shares]))
    kl = float(divergence.kl(prompted, steered[best]))
    curve: list[tuple[Cell, ...]] = [
        (abs(each) / unit, each, share, float(row[target[0]]))
        for each, share, row in zip(gammas, shares, steered, strict=True)
    ]
    ahead = [int(token) for each in (prompted, bare, steered[best]) for token in np.argsort(-each)[:top]]
    probabilities = np.exp([bare, prompted, steered[best]])
    piece = lab.model.tokenizer.piece
    effect = float(divergence.kl(prompted, bare))
    distance = float(divergence.tv(prompted, bare))
    share = shares[best]
    tried = [row[0] for row in curve], [row[2] for row in curve]
    told = "is not defined" if share is None else f"is {share:.1%}"
    chosen = "the best of those tried, by the prompt's own distribution" if gamma is None else "as given"
    return Reading(
        findings=[
            f"The prompt moves the next token's distribution by KL {effect:.4g} nats and TV {distance:.4f}.",
            f"Oracle, for ∇_task knows this item's target: of that, what β∇ at layer {layer} recovers "
            f"{told}, with γ = {gammas[best]:.4g}, {chosen}.",
        ],
        tables=[
            Table(
                "side",
                f"The next token at τ = {temperature:g}: without the prompt, with it, and steered",
                SIDE,
                [
                    (piece(token), *(float(p[token]) for p in probabilities))
                    for token in list(dict.fromkeys(ahead))[: 2 * top]
                ],
            ),
            Table(
                "oracle",
                "The card's formula, with the item's own target",
                ORACLE,
                [
                    (
                        layer, size, similar, gammas[best], gammas[best] * similar,
                        abs(gammas[best]) / unit, share, kl,
                    )
                ],
            ),
            Table("gamma", "The same for several γ", CURVE, curve, detail=True),
        ],
        figures=[
            Figure(
                "gamma",
                "How much of the prompt does a step along the gradient recover?",
                [line(*tried, "recovered", mode="lines+markers")],
                axes("‖β∇‖ / ‖h‖", "share of KL recovered", xaxis={"type": "log"}),
            )
        ],
        checks=[
            Check(
                "d/dβ log p(y) at β = 0 is ‖∇‖²",
                "central difference in float32 with β free, relative to ‖∇‖²",
                abs(slope / squared - 1),
                SLOPE,
            ),
            Check(
                "h_L put in place = the prompt",
                "largest difference of logits: the bare input with the prompted state before the final norm",
                float(np.abs(last - two.prompted).max()),
                lab.tie,
            ),
        ],
    )  # fmt: skip


def _steered(
    lab: "Lab",
    tokens: Sequence[int],
    layer: int,
    states: Float[np.ndarray, "tried hidden"],
    two: Two,
) -> tuple[Float[np.ndarray, "tried vocab"], Float[np.ndarray, "vocab"]]:
    """The logits with each of the states in place; and with the prompted one before the final norm."""
    from thermoscope.engine.batch import Batch
    from thermoscope.models.intervention import Patch

    at, final = [len(tokens) - 1], lab.model.config.layers
    patches = [[Patch(layer, at, torch.from_numpy(state)[None].float())] for state in states]
    patches.append([Patch(final, at, torch.from_numpy(two.prompted_states[final])[None].float())])
    batch = lab.call(partial(Batch, sequences=[tokens] * len(patches)))
    logits = lab.call(lambda _: batch.run(patches).logits).double().numpy()
    return logits[:-1], logits[-1]


def _gradient(
    model: "Model", tokens: Sequence[int], target: Sequence[int], layer: int
) -> tuple[float, Float[np.ndarray, "hidden"], float]:
    """The slope by finite differences, ∇_task at the last token, and ‖∇‖², all of the float32 network."""
    from thermoscope.engine.gradient import gradients
    from thermoscope.models.exact import Exact

    network = Exact(model.decoder)
    (found,) = gradients(network, [(tokens, target)], [layer, network.config.layers])
    gradient = found.by_layer[layer][-1]
    squared = float(gradient.double().square().sum())
    with torch.no_grad():
        rows = found.stream[layer] if len(target) == 1 else _rows(network, [*tokens, *target[:-1]], layer)
        step = STEP / squared if squared > 0 else 0.0
        ends = []
        for sign in (1, -1):
            moved = rows.clone()
            moved[len(tokens) - 1] += sign * step * gradient
            ends.append(moved)
        length = len(rows)
        out = network.onward(layer, torch.cat(ends), [length, length])
        scores = network.head(out).log_softmax(dim=-1).double()
        places = torch.arange(len(tokens) - 1, length)
        above, below = (scores[start + places, torch.tensor([*target])].sum() for start in (0, length))
    slope = float(above - below) / (2 * step) if step else 0.0
    return slope, gradient.double().numpy(), squared


def _rows(network: "Exact", sequence: Sequence[int], layer: int) -> Float[torch.Tensor, "tokens hidden"]:
    """The stream that a layer finds."""
    plan, sheet = network.layout([len(sequence)])
    rows = network.embed(sequence, plan)
    for index in range(layer):
        rows = network.block(index, rows, plan, sheet)
    return rows
