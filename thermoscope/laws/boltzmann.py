r"""A distribution over tokens from their logits: softmax at a temperature, and what follows from it.

Definition, for logits $z_i$ and a temperature $T$ in $[0, \infty]$:

$$P(x_i) = \frac{\exp(z_i / T)}{\sum_j \exp(z_j / T)}$$

Symbols: `logits` are $z$, in nats, [vocab]; any constant added to all of them changes nothing but `log_z`.
$T = 0$ puts all mass on the greatest logit (ties: the lowest id), $T = \infty$ spreads it evenly; both are
values, not errors. Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network",
eq. 1.
"""

import math

import numpy as np
from jaxtyping import Float


def weights(logits: Float[np.ndarray, "vocab"], temperature: float = 1.0) -> Float[np.ndarray, "vocab"]:
    """Boltzmann weights exp((z − max z) / T), the greatest being 1; they sum to Z · exp(−max z / T)."""
    best = logits.max()
    if temperature == 0:
        one_hot = np.zeros(logits.shape)
        one_hot[logits.argmax()] = 1.0
        return one_hot
    if math.isinf(temperature):
        return np.ones(logits.shape)
    with np.errstate(over="ignore"):  # at a small T, to -inf, whose weight is 0
        spread: Float[np.ndarray, "vocab"] = (logits - best) / temperature
    np.exp(spread, out=spread)
    return spread


def log_z(logits: Float[np.ndarray, "vocab"]) -> float:
    """Log of the partition function at T = 1, log Σ exp(z). Gauge-dependent: it moves with the logits."""
    return float(logits.max() + np.log(weights(logits).sum()))


def entropy(logits: Float[np.ndarray, "vocab"], weights: Float[np.ndarray, "vocab"], total: float) -> float:
    """Shannon entropy at T = 1, S = log Z − ⟨z⟩, in nats, from weights and their sum already in hand."""
    # Not np.dot: it wakes the threads of numpy's own BLAS, which then spin against PyTorch's.
    mean = float((weights * (logits - logits.max())).sum()) / total
    return max(0.0, math.log(total) - mean)
