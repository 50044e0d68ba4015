r"""The loss of a label, as a physicist reads it: how far the state lies above the free energy.

$$-\log p_y = \frac{E_y - F}{T}, \qquad \frac{\partial(-\log p_y)}{\partial z} = \frac{p - 1_y}{T}$$

The gradient is the gap between two averages of one-hot vectors, the model's, $p$, and the data's, $1_y$: the
two phases of Boltzmann learning. Both lines are gauge-free.

Symbols: `logits` $z$, [*rows, vocab]; energies $E = -z$; `labels` $y$, the right token's id for each row,
[*rows]; free energy $F = -T \log Z$ and temperature $T$ in [0, ∞] as in `boltzmann`.

Errors: `boltzmann`'s, and `InvalidRequest` for labels that are not one token id a row.

Source: Ackley, Hinton & Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines", for the two phases;
LeCun et al. 2006, "A Tutorial on Energy-Based Learning", section 2.2.4, for the loss.
"""

import numpy as np
from jaxtyping import Float, Int

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann


def loss(
    logits: Float[np.ndarray, "*rows vocab"], labels: Int[np.ndarray, "*rows"], temperature: float = 1.0
) -> Float[np.ndarray, "*rows"]:
    r"""$-\log p_y = (E_y - F) / T$ of every row, in nats: 0 at least, and ∞ where $p_y = 0$."""
    log_p = boltzmann.log_probabilities(logits, temperature)
    at = checked_labels(labels, log_p.shape)[..., None]
    losses: Float[np.ndarray, "*rows"] = np.abs(np.take_along_axis(log_p, at, axis=-1)[..., 0])
    return losses


def gradient(
    logits: Float[np.ndarray, "*rows vocab"], labels: Int[np.ndarray, "*rows"], temperature: float = 1.0
) -> Float[np.ndarray, "*rows vocab"]:
    r"""$\partial(-\log p_y)/\partial z = (p - 1_y) / T$ of every row, whose sum is 0; none at T = 0."""
    if temperature == 0:
        raise InvalidRequest(
            "temperature: got 0, where the loss has no gradient; expected a number above 0.",
            param="temperature",
        )
    log_p = boltzmann.log_probabilities(logits, temperature)
    at = checked_labels(labels, log_p.shape)[..., None]
    gap: Float[np.ndarray, "*rows vocab"] = np.exp(log_p)
    np.put_along_axis(gap, at, np.expm1(np.take_along_axis(log_p, at, axis=-1)), axis=-1)
    with np.errstate(over="ignore"):  # at a tiny T
        gap /= temperature
    return gap


def checked_labels(labels: Int[np.ndarray, "*rows"], shape: tuple[int, ...]) -> Int[np.ndarray, "*rows"]:
    """The labels as an array, if they are one token id for each row of logits of this shape."""
    ids = np.asarray(labels)
    *rows, vocab = shape
    if ids.shape != tuple(rows) or not np.issubdtype(ids.dtype, np.integer):
        raise InvalidRequest(
            f"labels: got {ids.dtype} of shape {ids.shape}, expected whole numbers of shape {tuple(rows)}.",
            param="labels",
        )
    for wrong in ids[(ids < 0) | (ids >= vocab)].flat:
        raise InvalidRequest(f"labels: got {wrong}, expected token ids, 0 to {vocab - 1}.", param="labels")
    return ids
