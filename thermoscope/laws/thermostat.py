"""The temperature at which a distribution has a wanted entropy, perplexity or top probability."""

import math

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann

COLDEST, HOTTEST = -744.0, 709.0  # log of the smallest and of the greatest T in float64
HALVINGS = 64  # of the interval between the two, which leaves less than the last digit of log T
EQUAL = 1e-14  # a target this close to an end, relative, is that end: log n is rounded in its last digits


def temperature_for(
    logits: Float[np.ndarray, "vocab"],
    *,
    entropy: float | None = None,
    perplexity: float | None = None,
    top_probability: float | None = None,
) -> float:
    r"""T in [0, ∞] at which the distribution has the one value that is given.

    `entropy`: $S$, in nats, from $\log g$ to $\log n$, where $g$ tokens share the greatest logit and $n$ are
    not cut off. `perplexity`: $\exp S$, in tokens, from $g$ to $n$. `top_probability`: $\max_i p_i$, from
    $1/n$ to $1/g$.

    $S$ rises with $T$, since $dS/dT = C/T \ge 0$ (`boltzmann.Thermodynamics`), and $\max p$ falls. The ends
    are the values at $T = 0$ and $T = \infty$; what lies between is found by halving $\log T$. Where all
    tokens tie, every $T$ is right, and 0 is the answer.

    Errors: `InvalidRequest` for a target out of reach, which says what the reach is; for none, or for two.
    """
    targets = {"entropy": entropy, "perplexity": perplexity, "top_probability": top_probability}
    given = [(name, value) for name, value in targets.items() if value is not None]
    if len(given) != 1:
        names = " and ".join(name for name, _ in given) or "none"
        raise InvalidRequest(f"target: got {names}, expected exactly one of {', '.join(targets)}.")
    ((name, value),) = given
    z = boltzmann.checked(logits)
    if z.ndim != 1:
        raise InvalidRequest(f"logits: got shape {z.shape}, expected one row of them.", param="logits")

    at_zero, at_infinity = _reading(name, z, 0.0), _reading(name, z, math.inf)
    for end, temperature in ((at_zero, 0.0), (at_infinity, math.inf)):
        if math.isclose(value, end, rel_tol=EQUAL):
            return temperature
    least, most = sorted((at_zero, at_infinity))
    if not least < value < most:
        raise InvalidRequest(
            f"{name}: got {value:g}, expected {least:g} to {most:g}, the reach of these logits.", param=name
        )
    cold, hot = COLDEST, HOTTEST
    for _ in range(HALVINGS):
        middle = (cold + hot) / 2
        if (_reading(name, z, math.exp(middle)) < value) == (at_zero < at_infinity):
            cold = middle
        else:
            hot = middle
    return math.exp(hot)


def _reading(name: str, z: Float[np.ndarray, "vocab"], temperature: float) -> float:
    if name == "top_probability":
        return math.exp(-boltzmann.weigh(boltzmann.exponents_of(z, temperature))[1])
    entropy = float(boltzmann.thermodynamics(z, temperature).entropy)
    return entropy if name == "entropy" else math.exp(entropy)
