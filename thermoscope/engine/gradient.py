"""How the log-probability of a target changes with the residual stream."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from thermoscope.errors import ContextExceeded, InvalidRequest
from thermoscope.models.exact import Exact

Item = tuple[Sequence[int], Sequence[int]]  # a prompt's tokens, and the target's


@dataclass(frozen=True)
class Gradient:
    r"""∂ log p(y | x) / ∂h of one prompt x and target y, nats a unit of the stream.

    - `logprob`: log p(y | x) = Σ_i log p(y_i | x, y_<i), at temperature 1.
    - `by_layer`: layer ℓ -> [tokens of x, hidden], the gradient by the stream that layer ℓ finds at each
      position; the number of layers stands for the one before the final norm.
    - `stream`: the stream itself, likewise.
    """

    logprob: float
    by_layer: dict[int, Float[Tensor, "tokens hidden"]]
    stream: dict[int, Float[Tensor, "tokens hidden"]]


def gradients(network: Exact, items: Sequence[Item], layers: Collection[int] | None = None) -> list[Gradient]:
    r"""Gradients of every item, all in one sweep forward and one back, a layer at a time.

    $$\nabla_\ell = \nabla_{\ell+1} \, \frac{\partial g_\ell(h_\ell)}{\partial h_\ell},
    \qquad h_{\ell+1} = g_\ell(h_\ell)$$

    Only each layer's stream is kept between the sweeps; a layer is run again to go back through it. Items do
    not touch each other; they share the making of the layers.

    - `layers`: of which layers, 0 to the number of layers; None is all.

    **Errors:** `InvalidRequest` for an empty prompt or target, or a layer out of range; `ContextExceeded`.
    """
    top = network.config.layers
    wanted = set(range(top + 1)) if layers is None else set(layers)
    _check(network, items, wanted)
    sequences = [[*prompt, *target[:-1]] for prompt, target in items]
    lengths = [len(sequence) for sequence in sequences]
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    plan, sheet = network.layout(lengths)
    states: list[Tensor] = []
    with torch.no_grad():
        x = network.embed([token for sequence in sequences for token in sequence], plan)
        for index in range(top):
            states.append(x)
            x = network.block(index, x, plan, sheet)
    states.append(x)

    last = x.detach().requires_grad_()
    scores = [
        _logprob(network, last[start + len(prompt) - 1 : start + length], target)
        for (prompt, target), start, length in zip(items, starts, lengths, strict=True)
    ]
    (gradient,) = torch.autograd.grad(torch.stack(scores).sum(), last)
    found = {top: gradient}
    for index in range(top - 1, min(wanted) - 1, -1):
        entering = states[index].detach().requires_grad_()
        leaving = network.block(index, entering, plan, sheet)
        (gradient,) = torch.autograd.grad(leaving, entering, gradient)
        found[index] = gradient
    return [
        Gradient(
            float(score.detach()),
            *(
                {layer: each[layer][start : start + len(prompt)] for layer in sorted(wanted)}
                for each in (found, states)
            ),
        )
        for (prompt, _), start, score in zip(items, starts, scores, strict=True)
    ]


def _logprob(network: Exact, rows: Float[Tensor, "target hidden"], target: Sequence[int]) -> Tensor:
    law = network.head(rows).log_softmax(dim=-1)
    return law[torch.arange(len(target)), torch.tensor([*target])].sum()


def _check(network: Exact, items: Sequence[Item], layers: set[int]) -> None:
    config = network.config
    if not items:
        raise InvalidRequest("items: got none, expected at least one prompt with its target.")
    if beyond := sorted(layers - set(range(config.layers + 1))):
        raise InvalidRequest(f"layers: got {beyond[0]}, expected 0 to {config.layers}.", param="layers")
    if not layers:
        raise InvalidRequest("layers: got none, expected at least one.", param="layers")
    for prompt, target in items:
        for name, tokens in (("prompt", prompt), ("target", target)):
            if not tokens:
                raise InvalidRequest(f"{name}: got no tokens, expected at least one.", param=name)
            if outside := [token for token in tokens if not 0 <= token < config.vocab]:
                raise InvalidRequest(
                    f"{name}: got token id {outside[0]}, expected 0 to {config.vocab - 1}, the vocabulary.",
                    param=name,
                )
        if len(prompt) + len(target) - 1 > config.context:
            raise ContextExceeded(
                f"context: got {len(prompt) + len(target)} tokens of prompt and target, expected at most "
                f"{config.context + 1}."
            )
