r"""A distribution over tokens from their logits: softmax at a temperature, and what follows from it.

Definition, for logits $z_i$ and a temperature $T$ in $[0, \infty]$:

$$P(x_i) = \frac{\exp(z_i / T)}{\sum_j \exp(z_j / T)}$$

A physicist reads the same line with energies $E_i = -z_i$, $k_B = 1$ and the partition function $Z$ below it.

Symbols: `logits` are $z$, in nats, [*rows, vocab]; a constant added to all of a row moves no probability.
`temperature` is $T$, in the logits' own unit. $T = 0$ puts all mass on the greatest logit (ties: the lowest
id), $T = \infty$ spreads it evenly; both are values, not errors. A logit of $-\infty$ is a token that was cut
off: $p = 0$, and no state of the system.

Errors: `InvalidRequest` for a temperature that is negative or NaN, and for a row that is empty, has NaN or
$+\infty$, or nothing but $-\infty$. `weights` and `state` are the sampler's, whose logits are checked before.

Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", eq. 1; for the physics,
MacKay 2003, "Information Theory, Inference, and Learning Algorithms", chapter 31.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Float

from thermoscope.errors import InvalidRequest

FROZEN = -800.0  # exp of less than -746 is 0 in float64, so no exponent need be lower; it must only be finite


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
        return (logits > -np.inf).astype(np.float64)
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


def checked(logits: Float[Any, "*rows vocab"]) -> Float[np.ndarray, "*rows vocab"]:
    """The logits in float64, if every row of them is a distribution's; the array itself if it is float64."""
    z = np.asarray(logits, dtype=np.float64)
    if z.ndim == 0 or z.shape[-1] == 0:
        raise InvalidRequest(
            f"logits: got shape {z.shape}, expected at least one logit a row.", param="logits"
        )
    best = z.max(axis=-1)
    if not np.isfinite(best).all():
        if np.isnan(best).any():
            got = "NaN"
        elif np.isposinf(best).any():
            got = "+inf"
        else:
            got = "a row of nothing but -inf"
        raise InvalidRequest(
            f"logits: got {got}, expected finite numbers, and -inf only beside them.", param="logits"
        )
    return z


def check_temperature(temperature: float) -> None:
    """Raise `InvalidRequest` unless the temperature is in [0, ∞]."""
    if not temperature >= 0:
        raise InvalidRequest(
            f"temperature: got {temperature}, expected a number, 0 to infinity.", param="temperature"
        )


def log_probabilities(
    logits: Float[np.ndarray, "*rows vocab"], temperature: float = 1.0
) -> Float[np.ndarray, "*rows vocab"]:
    r"""log P of every token, in nats: $\log p_i = z_i / T - \log Z$, and $-\infty$ where $p = 0$.

    Exact to rounding for the best token, too: $-\log p$ of a near-certain one is not cut off at $10^{-16}$.
    """
    z = checked(logits)
    check_temperature(temperature)
    exponents = exponents_of(z, temperature)
    if temperature == 0:
        exponents.fill(-np.inf)
        np.put_along_axis(exponents, z.argmax(axis=-1, keepdims=True), 0.0, axis=-1)
    exponents -= weigh(exponents)[1][..., None]
    return exponents


def probabilities(
    logits: Float[np.ndarray, "*rows vocab"], temperature: float = 1.0
) -> Float[np.ndarray, "*rows vocab"]:
    """P of every token at a temperature: softmax(z / T)."""
    p = log_probabilities(logits, temperature)
    np.exp(p, out=p)
    return p


class Thermodynamics(NamedTuple):
    r"""What a distribution is like at a temperature, one number a row (or a temperature), float64.

    With energies $E_i = -z_i$ and $k_B = 1$:

    - `log_z`: $\log Z = \log \sum_i \exp(z_i / T)$, a pure number.
    - `free_energy`: $F = -T \log Z$, in nats of logit.
    - `energy`: $U = \langle E \rangle = \sum_i p_i E_i$, in nats of logit.
    - `entropy`: $S = -\sum_i p_i \log p_i = (U - F) / T$, in nats.
    - `heat_capacity`: $C = dU/dT = T\,dS/dT = \mathrm{Var}\,E / T^2$, a pure number, never negative.

    Gauge-dependent: a constant $c$ added to the logits moves `log_z` by $c / T$, `free_energy` and `energy`
    by $-c$. Gauge-free: `entropy`, `heat_capacity`, and the differences $U - F = T S$ and
    $E_i - F = -T \log p_i$.
    """

    log_z: Float[Any, "*rows"]
    free_energy: Float[Any, "*rows"]
    energy: Float[Any, "*rows"]
    entropy: Float[Any, "*rows"]
    heat_capacity: Float[Any, "*rows"]


def thermodynamics(logits: Float[np.ndarray, "*rows vocab"], temperature: float = 1.0) -> Thermodynamics:
    r"""$\log Z$, F, U, S and C of every row at one temperature; what each means says `Thermodynamics`.

    At both ends these are the limits. $T \to 0$: $F = U = \min E$, $C = 0$, and $S = \log$ of how many share
    the greatest logit: physics leaves ties even, where the sampler takes the lowest id and has $S = 0$.
    $T \to \infty$: $S = \log$ of how many are not cut off, $U$ their mean energy, $C = 0$, $F = -\infty$.
    """
    check_temperature(temperature)
    return _thermodynamics(checked(logits), temperature)


def curve(logits: Float[np.ndarray, "*rows vocab"], temperatures: Iterable[float]) -> Thermodynamics:
    """`thermodynamics` at each of the temperatures, which become the last axis: [*rows, temperatures]."""
    z = checked(logits)
    points = []
    for temperature in temperatures:
        check_temperature(temperature)
        points.append(_thermodynamics(z, float(temperature)))
    if not points:
        raise InvalidRequest("temperatures: got none, expected at least one.", param="temperatures")
    return Thermodynamics(*(np.stack(values, axis=-1) for values in zip(*points, strict=True)))


def _thermodynamics(z: Float[np.ndarray, "*rows vocab"], temperature: float) -> Thermodynamics:
    # With x = (z − max z) / T, everything is a sum of terms of one sign: nothing large cancels.
    best = z.max(axis=-1)
    x = exponents_of(z, temperature)
    np.maximum(x, FROZEN, out=x)
    weights, excess = weigh(x)
    total = weights.sum(axis=-1)
    # A third array of this size would cost more in fresh pages than all the arithmetic does.
    mean = np.einsum("...i,...i->...", weights, x) / total
    x -= mean[..., None]
    x *= x
    x *= weights
    heat_capacity = x.sum(axis=-1) / total
    entropy = excess - mean
    if temperature == 0 or math.isinf(temperature):
        return _limit(z, temperature, entropy)
    with np.errstate(over="ignore"):  # log Z at a tiny T, F at a huge one
        log_z = best / temperature + excess
        energy, free_energy = -best - temperature * mean, -best - temperature * excess
    return Thermodynamics(log_z, free_energy, energy, entropy, heat_capacity)


def _limit(
    z: Float[np.ndarray, "*rows vocab"], temperature: float, entropy: Float[Any, "*rows"]
) -> Thermodynamics:
    """T → 0 or T → ∞, where T log Z = max z + T S and log Z = max z / T + S at their leading orders."""
    best, nothing = z.max(axis=-1), np.zeros(z.shape[:-1])[()]
    if temperature == 0:
        log_z = np.where(best == 0, entropy, np.copysign(np.inf, best))[()]
        return Thermodynamics(log_z, -best, -best, entropy, nothing)
    mean = z.mean(axis=-1, where=np.isfinite(z))
    free_energy = np.where(entropy > 0, -np.inf, -best)[()]  # one state has F = E at every T
    return Thermodynamics(entropy, free_energy, -mean, entropy, nothing)


def exponents_of(z: Float[np.ndarray, "*rows vocab"], temperature: float) -> Float[np.ndarray, "*rows vocab"]:
    """(z − max z) / T, a new array; at 0 and ∞ its limits, which leave all tokens that tie at 0."""
    best = z.max(axis=-1, keepdims=True)
    if temperature == 0:
        return np.where(z == best, 0.0, -np.inf)
    if math.isinf(temperature):
        return np.where(np.isneginf(z), -np.inf, 0.0)
    with np.errstate(over="ignore"):  # at a small T, to -inf, whose weight is 0
        exponents: Float[np.ndarray, "*rows vocab"] = z - best
        exponents /= temperature
    return exponents


def weigh(
    exponents: Float[np.ndarray, "*rows vocab"],
) -> tuple[Float[np.ndarray, "*rows vocab"], Float[Any, "*rows"]]:
    """Weights exp(x) for exponents whose greatest is 0, and log Σ exp(x).

    The logarithm is log1p of all weights but the greatest, so that none is too small to count beside 1.
    """
    weights, best = np.exp(exponents), exponents.argmax(axis=-1, keepdims=True)
    np.put_along_axis(weights, best, 0.0, axis=-1)
    log_sum = np.log1p(weights.sum(axis=-1))
    np.put_along_axis(weights, best, 1.0, axis=-1)
    return weights, log_sum
