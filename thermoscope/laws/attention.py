r"""What a token reads from the memory of those before it, and how attention is summed up.

Definition, the reading of token $t$ by one head, from the memory $M_t = [K_t, V_t]$:

$$c_t = \operatorname{softmax}\left(\frac{q_t (K_t)^\top}{\sqrt d}\right) V_t, \qquad
\alpha_t = \operatorname{softmax}(\cdot), \qquad H_t = -\sum_j \alpha_{tj} \log \alpha_{tj}$$

Symbols: `weights` are $\alpha$, [*heads, rows, memory], each row summing to 1. $\exp H_t$ is the number of
slots of memory that the token effectively reads: as many slots, read evenly, have this entropy (nats).

Functions that a pass calls for every layer take numpy's arrays or PyTorch's; their sums are no dot products
of numpy's, which would wake threads of its own.

Source: Vaswani et al. 2017, "Attention Is All You Need", eq. 1; Kobayashi et al. 2020, "Attention is Not Only
a Weight: Analyzing Transformers with Vector Norms", eq. 4; Bogdan et al. 2025, "Thought Anchors: Which LLM
Reasoning Steps Matter?", section 5 (vertical scores, kurtosis, receiver heads).
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from jaxtyping import Bool, Float

from thermoscope.errors import InvalidRequest

LEAST = 4  # values that a kurtosis says something of: any three have −1.5


def read(
    q: Float[Any, "heads rows dim"],
    k: Float[Any, "heads memory dim"],
    v: Float[Any, "heads memory dim"],
    scale: float,
    hidden: Bool[Any, "rows memory"],
) -> Float[Any, "heads rows dim"]:
    r"""$c_t$ of every row. `scale` is the card's $1/\sqrt d$; `hidden`: what a row does not see."""
    xp = array_namespace(q, k, v)
    scores = scale * xp.matmul(q, xp.matrix_transpose(k))
    scores = xp.where(hidden, -xp.inf, scores)
    weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
    return xp.matmul(weights / xp.sum(weights, axis=-1, keepdims=True), v)


def entropy(weights: Float[Any, "*heads rows memory"]) -> Float[Any, "*heads rows"]:
    r"""$H_t$ in nats, with $0 \log 0 = 0$; at most the log of how many slots there are."""
    xp = array_namespace(weights)
    least = xp.finfo(weights.dtype).smallest_normal
    return -xp.sum(weights * xp.log(xp.clip(weights, least, None)), axis=-1)


def weighted(
    weights: Float[Any, "*heads rows memory"], norms: Float[Any, "*heads memory"]
) -> Float[Any, "*heads rows memory"]:
    r"""$\alpha_{tj} \|v_j W_O\| / \sum_i \alpha_{ti} \|v_i W_O\|$: attention by the length of what it moves.

    A sink takes attention and has a short value: what it adds to the stream is little.
    `norms`: $\|v_j W_O\|$ of this head.
    """
    xp = array_namespace(weights)
    moved = weights * norms[..., None, :]
    return moved / xp.sum(moved, axis=-1, keepdims=True)


def vertical(between: Float[np.ndarray, "*heads steps steps"], gap: int) -> Float[np.ndarray, "*heads seen"]:
    r"""The mean attention that each step receives from the steps that come `gap` or more after it.

    $$s_j = \frac{1}{S - j - g} \sum_{i \ge j + g} a_{ij}$$

    `between`: $a_{ij}$, what step $i$ gives to step $j$. The last `gap` steps have nobody so far behind them.

    **Errors:** `InvalidRequest` for a gap below 1, or one that leaves no step.
    """
    steps = between.shape[-1]
    if not 1 <= gap < steps:
        raise InvalidRequest(f"gap: got {gap}, expected 1 to {steps - 1}, less than there are steps.")
    return np.stack([between[..., j + gap :, j].mean(axis=-1) for j in range(steps - gap)], axis=-1)


def kurtosis(values: Float[np.ndarray, "*heads some"]) -> Float[np.ndarray, "*heads"]:
    r"""Fisher's excess kurtosis $\mathrm{E}(x - \mu)^4 / \sigma^4 - 3$, of the sample as it is.

    Of `some` values it is at most some − 5 + 1/(some − 1), which one value that stands out from equal others
    has; where all are equal it is 0 by agreement: nothing stands out.

    **Errors:** `InvalidRequest` for fewer than four values.
    """
    if values.shape[-1] < LEAST:
        raise InvalidRequest(f"kurtosis: got {values.shape[-1]} values, expected {LEAST} or more.")
    values = values.astype(np.float64)
    off = values - values.mean(axis=-1, keepdims=True)
    off[np.abs(off) <= 1e-12 * np.abs(values).max(axis=-1, keepdims=True)] = 0  # a rounding is no difference
    square = (off**2).mean(axis=-1)
    even = square == 0
    found: Float[np.ndarray, "*heads"] = (off**4).mean(axis=-1) / np.where(even, 1, square) ** 2 - 3
    return np.where(even, 0.0, found)
