r"""A distribution over tokens from their logits: softmax at a temperature, and what follows from it.

Definition, for logits $z_i$ and a temperature $T$ in $[0, \infty]$:

$$P(x_i) = \frac{\exp(z_i / T)}{\sum_j \exp(z_j / T)}$$

Symbols: `logits` are $z$, in nats, [vocab]; any constant added to all of them changes nothing but `log_z`.
$T = 0$ puts all mass on the greatest logit (ties: the lowest id), $T = \infty$ spreads it evenly; both are
values, not errors. Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network",
eq. 1.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float


def weights(
    logits: Float[np.ndarray, "some"], temperature: float = 1.0, *, greatest: float | None = None
) -> Float[np.ndarray, "some"]:
    """Boltzmann weights exp((z − max z) / T), the greatest being 1; they sum to Z · exp(−max z / T).

    `greatest`: max z of the whole distribution, where `logits` are only some of it; T must be above 0 then.
    """
    if temperature == 0:
        one_hot = np.zeros(logits.shape)
        one_hot[logits.argmax()] = 1.0
        return one_hot
    if math.isinf(temperature):
        return np.ones(logits.shape)
    best = logits.max() if greatest is None else greatest
    with np.errstate(over="ignore"):  # at a small T, to -inf, whose weight is 0
        spread: Float[np.ndarray, "some"] = (logits - best) / temperature
    np.exp(spread, out=spread)
    return spread


class State(NamedTuple):
    """What a distribution is like as a whole, one number a row, float64.

    `log_z`: log of the partition function, log Σ exp(z). Gauge-dependent: it moves with the logits.
    `entropy`: S = log Z − ⟨z⟩, in nats.
    """

    log_z: Float[Any, "*rows"]
    entropy: Float[Any, "*rows"]


def state(logits: Float[Any, "*rows vocab"]) -> State:
    """Log Z and entropy at T = 1 of every row, of numpy's arrays or PyTorch's; all logits finite."""
    xp = array_namespace(logits)
    spread = xp.astype(logits, xp.float64)  # a copy, and the only one: the rest happens in place
    best = xp.max(spread, axis=-1, keepdims=True)
    spread -= best
    weights = xp.exp(spread)
    total = xp.sum(weights, axis=-1)
    spread *= weights
    # Not a dot product: numpy's wakes the threads of its own BLAS, which then spin against PyTorch's.
    mean, log_total = xp.sum(spread, axis=-1) / total, xp.log(total)
    return State(best[..., 0] + log_total, xp.clip(log_total - mean, 0.0, None))
