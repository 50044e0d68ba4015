r"""What a prompt does, as a vector that is added to the residual stream, and how much of the prompt that is.

$$P(y \mid \text{prompt}, x) \approx \mathrm{softmax}(f(h + \beta \nabla) / \tau), \qquad
\beta = \gamma \cos(h, h_\text{task}), \qquad \nabla = \frac{\partial \log p(y \mid x)}{\partial h}$$

With the log-likelihood of the target, $+\beta\nabla$ moves towards it, and
$\frac{d}{d\beta} \log p(y)\,|_{\beta=0} = \|\nabla\|^2$; with the negative one, as the card may be read, it
would move away.

Symbols: $h$ is the stream of one layer at one position without the prompt, `states` those of several items,
[items, hidden], `prompted` the same with the prompt before them, all in the model's own unit of the stream.
$\nabla$ is in nats a unit, $\beta$ and $\gamma$ in units² a nat. Distributions are log-probabilities,
[*rows, vocab], as in `laws.divergence`.

Errors: those of numpy for shapes that do not fit, and of `laws.divergence`.

Source: Hendel, Geva & Globerson 2023, "In-Context Learning Creates Task Vectors" (the mean prompted state,
put in place of h); Rimsky et al. 2024, "Steering Llama 2 via Contrastive Activation Addition", section 3 (the
mean difference); Tan et al. 2024, "Analysing the Generalisation and Reliability of Steering Vectors" (items
that are steered the wrong way).
"""

from typing import Any

import numpy as np
from jaxtyping import Float

from thermoscope.laws.divergence import kl


def similarity(
    states: Float[np.ndarray, "*items hidden"], task: Float[np.ndarray, "hidden"]
) -> Float[Any, "*items"]:
    r"""$\cos(h, h_\text{task})$ of every state; 0 where one of the two is 0."""
    lengths = np.linalg.norm(states, axis=-1) * np.linalg.norm(task)
    return np.divide(states @ task, lengths, out=np.zeros_like(lengths), where=lengths > 0)


def shift(
    states: Float[np.ndarray, "*items hidden"],
    task: Float[np.ndarray, "hidden"],
    gradient: Float[np.ndarray, "hidden"],
    gamma: float,
) -> Float[np.ndarray, "*items hidden"]:
    r"""The card's $\beta\nabla$ of every state, $\beta = \gamma \cos(h, h_\text{task})$."""
    return np.asarray(gamma * np.asarray(similarity(states, task))[..., None] * gradient)


def mean_difference(
    prompted: Float[np.ndarray, "items hidden"], bare: Float[np.ndarray, "items hidden"]
) -> Float[np.ndarray, "hidden"]:
    """How far the prompt moves a state on average, over items that have both."""
    return np.asarray((prompted - bare).mean(axis=0))


def of_equal_norm(
    shifts: Float[np.ndarray, "items hidden"], directions: Float[np.ndarray, "*items hidden"]
) -> Float[np.ndarray, "items hidden"]:
    """A control: other directions, each as long as the shift that it stands for."""
    lengths = np.linalg.norm(shifts, axis=-1, keepdims=True)
    return np.asarray(lengths * directions / np.linalg.norm(directions, axis=-1, keepdims=True))


def recovered(
    prompted: Float[np.ndarray, "*rows vocab"],
    steered: Float[np.ndarray, "*rows vocab"],
    bare: Float[np.ndarray, "*rows vocab"],
) -> float | None:
    r"""The part of the prompt's effect that steering gives.

    $$1 - \frac{\sum \mathrm{KL}(\text{prompted} \| \text{steered})}
    {\sum \mathrm{KL}(\text{prompted} \| \text{bare})}$$

    1 is all of it, 0 none, less than 0 worse than none; None where the prompt changed nothing.
    """
    effect = float(np.sum(kl(prompted, bare)))
    return None if effect == 0 else 1 - float(np.sum(kl(prompted, steered))) / effect


def off_subspace(
    states: Float[np.ndarray, "*items hidden"], demonstrations: Float[np.ndarray, "shots hidden"]
) -> Float[Any, "*items"]:
    r"""How far states are from the flat through the demonstrations' states, as a share of their own length.

    $$d(h) = \frac{\min_{w, \sum w = 1} \left\| h - \sum_j w_j h_j \right\|}{\|h\|}$$
    """
    centre = demonstrations.mean(axis=0)
    _, sizes, directions = np.linalg.svd(demonstrations - centre, full_matrices=False)
    held = directions[sizes > 1e-9 * max(float(sizes.max()), np.finfo(float).tiny)]
    apart = states - centre
    apart = apart - (apart @ held.T) @ held
    return np.linalg.norm(apart, axis=-1) / np.linalg.norm(states, axis=-1)
