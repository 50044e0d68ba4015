r"""How far one distribution is from another: KL, JS and total variation, all three gauge-free.

$$\mathrm{KL}(p \| q) = \sum_i p_i \log\frac{p_i}{q_i}, \qquad
\mathrm{JS}(p, q) = \tfrac12 \mathrm{KL}(p \| m) + \tfrac12 \mathrm{KL}(q \| m),\ m = \tfrac12 (p + q), \qquad
\mathrm{TV}(p, q) = \tfrac12 \sum_i |p_i - q_i|$$

Symbols: `log_p` and `log_q` are $\log p$ and $\log q$ over the same tokens, [*rows, vocab], as
`boltzmann.log_probabilities` gives them; $-\infty$ where a probability is 0. KL and JS are in nats, JS at
most $\log 2$; TV is in [0, 1]. $0 \log 0 = 0$, and KL is ∞ where $q_i = 0 < p_i$.

Errors: `InvalidRequest` for shapes that differ, and for rows whose probabilities do not sum to 1.

Source: Kullback & Leibler 1951, "On Information and Sufficiency", section 2; Lin 1991, "Divergence Measures
Based on the Shannon Entropy"; Levin & Peres 2017, "Markov Chains and Mixing Times", section 4.1.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann

ROUNDING = 1e-3  # by which the sum of probabilities may miss 1: float32 does, over a large vocabulary


def kl(
    log_p: Float[np.ndarray, "*rows vocab"], log_q: Float[np.ndarray, "*rows vocab"]
) -> Float[Any, "*rows"]:
    r"""$\mathrm{KL}(p \| q)$ of every row, in nats."""
    return _kl(*_checked(log_p, log_q))


def js(
    log_p: Float[np.ndarray, "*rows vocab"], log_q: Float[np.ndarray, "*rows vocab"]
) -> Float[Any, "*rows"]:
    r"""$\mathrm{JS}(p, q)$ of every row, in nats, symmetric, at most $\log 2$."""
    log_p, log_q = _checked(log_p, log_q)
    log_m = np.logaddexp(log_p, log_q) - math.log(2)
    return (_kl(log_p, log_m) + _kl(log_q, log_m)) / 2


def tv(
    log_p: Float[np.ndarray, "*rows vocab"], log_q: Float[np.ndarray, "*rows vocab"]
) -> Float[Any, "*rows"]:
    r"""$\mathrm{TV}(p, q)$ of every row: the most that any event's probability differs by."""
    log_p, log_q = _checked(log_p, log_q)
    return np.abs(np.exp(log_p) - np.exp(log_q)).sum(axis=-1) / 2


def between_temperatures(
    logits: Float[np.ndarray, "*rows vocab"], temperature: float, other: float
) -> Float[Any, "*rows"]:
    r"""$\mathrm{KL}(p_T \| p_{T'})$ of every row, in nats, through the free energy at `other`, $T'$.

    With $\log p_{T,i} = (F_T - E_i) / T$, which is $E_i - F = -T \log p_i$ for both temperatures,

    $$\mathrm{KL}(p_T \| p_{T'}) = \langle \log p_T \rangle_T - \langle \log p_{T'} \rangle_T
    = -S_T + \frac{U_T - F_{T'}}{T'}$$

    so $T'\,\mathrm{KL} = (U_T - T' S_T) - F_{T'}$ is the free energy that the distribution of $T$ has above
    the least there is in a bath of $T'$. The limits are those of `boltzmann.thermodynamics`: at $T = 0$ the
    greatest logits share evenly; against $T' = 0$ any other logit costs ∞; against $T' = \infty$ it is
    $\log n - S_T$, with $n$ tokens that are not cut off.
    """
    z = boltzmann.checked(logits)
    z = z - z.max(axis=-1, keepdims=True)  # U and F as small as they can be, so that little cancels
    here, there = boltzmann.thermodynamics(z, temperature), boltzmann.thermodynamics(z, other)
    # -F' / T' = log Z', which has its limits at both ends; U / T' is 0 for U = 0 even at T' = 0.
    with np.errstate(over="ignore"):
        heat = here.energy / other if other > 0 else np.where(here.energy > 0, np.inf, 0.0)
    return np.maximum(there.log_z - here.entropy + heat, 0.0)


def _kl(
    log_p: Float[np.ndarray, "*rows vocab"], log_q: Float[np.ndarray, "*rows vocab"]
) -> Float[Any, "*rows"]:
    p, q = np.exp(log_p), np.exp(log_q)
    terms = np.zeros(p.shape)
    np.subtract(log_p, log_q, out=terms, where=p > 0)
    terms *= p
    # Two sums that are both 1, so that every term is above 0 and rounding of log Z cancels.
    terms += q - p
    return np.maximum(terms.sum(axis=-1), 0.0)


def _checked(
    log_p: Float[np.ndarray, "*rows vocab"], log_q: Float[np.ndarray, "*rows vocab"]
) -> tuple[Float[np.ndarray, "*rows vocab"], Float[np.ndarray, "*rows vocab"]]:
    """Both in float64, if they are log-probabilities of the same shape."""
    p, q = np.asarray(log_p, dtype=np.float64), np.asarray(log_q, dtype=np.float64)
    if p.shape != q.shape:
        raise InvalidRequest(f"log_q: got shape {q.shape}, expected {p.shape} as log_p has.", param="log_q")
    for name, each in (("log_p", p), ("log_q", q)):
        with np.errstate(over="ignore"):
            sums = np.exp(each).sum(axis=-1)
        for wrong in sums[~(np.abs(sums - 1) <= ROUNDING)].flat:
            raise InvalidRequest(
                f"{name}: got probabilities with the sum {wrong:g}, expected 1; take log-probabilities.",
                param=name,
            )
    return p, q
