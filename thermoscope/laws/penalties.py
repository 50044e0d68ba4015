r"""What lowers the logit of a token that was said before.

Each law works on the logits, or the counts, of the tokens that it touches, and on no others.

Errors: none; ranges are checked where settings come in.
"""

from collections.abc import Collection

import numpy as np
from jaxtyping import Float, Int

LARGEST = 80.0  # of the exponent's logarithm: e^80 nats are enough to never say a token again, and finite


def repetition(logits: Float[np.ndarray, "some"], factor: float) -> Float[np.ndarray, "some"]:
    r"""Logits of tokens that were seen: $z / \theta$ where z > 0, $z \theta$ elsewhere.

    $\theta$ = 1 is neutral. It moves with the gauge: a constant added to all logits changes what it does.
    Source: Keskar et al. 2019, "CTRL", section 4.1, with the sign rule of every engine since.
    """
    return logits * np.where(logits > 0, 1 / factor, factor)


def counted(
    counts: Float[np.ndarray, "some"], presence: float, frequency: float
) -> Float[np.ndarray, "some"]:
    r"""Nats to take off tokens that were said: $\alpha_p + \alpha_f c$, with c ≥ 1 how often.

    Source: OpenAI, API reference, "Frequency and presence penalties".
    """
    return presence + frequency * counts


def dry(
    tokens: Int[np.ndarray, "said"],
    multiplier: float,
    base: float,
    allowed: int,
    breakers: Collection[int] = (),
) -> dict[int, float]:
    r"""Don't repeat yourself: nats to take off each token that would make a repeated sequence longer.

    Where the last $n$ tokens stand earlier too, followed by a token $t$, then $t$ loses
    $m \cdot b^{\,n - a}$ for the longest such $n$, if $n \ge a$.

    `tokens`: everything so far. `multiplier` is $m$, in nats; `base` $b$; `allowed` $a \ge 1$, the longest
    repetition that costs $m$ only. `breakers`: tokens that no repetition reaches across, which never lose.

    Source: p-e-w 2024, text-generation-webui, pull request 5637.
    """
    if len(tokens) < 2 or int(tokens[-1]) in breakers:
        return {}
    ends = np.flatnonzero(tokens[:-1] == tokens[-1])
    lengths = np.ones(len(ends), dtype=np.int64)
    open_ = ends
    at = np.arange(len(ends))
    for length in range(1, len(tokens)):
        previous = int(tokens[-1 - length])
        if previous in breakers:
            break
        going = (open_ >= length) & (tokens[open_ - length] == previous)
        open_, at = open_[going], at[going]
        if not len(at):
            break
        lengths[at] += 1
    costs: dict[int, float] = {}
    for token, length in zip(tokens[ends + 1].tolist(), lengths.tolist(), strict=True):
        if length >= allowed and token not in breakers:
            exponent = min((length - allowed) * np.log(base), LARGEST)
            costs[token] = max(costs.get(token, 0.0), multiplier * float(np.exp(exponent)))
    return costs
