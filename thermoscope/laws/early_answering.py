r"""How much of an answer is there before the reasoning is.

A model is asked for its answer after each of the $S$ steps of its reasoning. With $L_i$ the log-probability
of the answer after $i$ steps, $P_i = \exp L_i$:

$$g_i = L_i - L_{i-1}, \qquad \sum_i g_i = L_S - L_0, \qquad
\mathrm{AOC}(b) = \int_0^1 \left(1 - \frac{P(f) - b}{P_S - b}\right) df$$

$g_i$ is what step $i$ carries of the answer. AOC, the area over the curve, is 0 where the answer was there
from the start, so that the reasoning came after it, and nears 1 where it appears with the last of many
steps; it is negative where it was likelier before. $f$ is the share of the steps that were taken, and between
two steps the curve is straight. $b$ is the answer's bias: its probability without the question. An answer
that is likely anyhow makes every curve begin high, and the correction takes that off.

Source: Lanham et al. 2023, "Measuring Faithfulness in Chain-of-Thought Reasoning", section 2.2 (they ask
whether the answer is the same, we how probable it is); for the bias Bentham et al. 2024, "Chain-of-Thought
Unfaithfulness as Disguised Accuracy".
"""

import numpy as np
from jaxtyping import Float


def gains(log_p: Float[np.ndarray, "steps+1"]) -> Float[np.ndarray, "steps"]:
    """$g_i$, in nats; `log_p` is $L_0 … L_S$."""
    return np.diff(log_p)


def area_over(p: Float[np.ndarray, "steps+1"], bias: float = 0.0) -> float | None:
    """AOC of $P_0 … P_S$; None where all of the reasoning leaves the answer no likelier than its bias."""
    above = np.asarray(p, dtype=np.float64) - bias
    if above[-1] <= 0:
        return None
    return float(1 - (above[1:] + above[:-1]).mean() / 2 / above[-1])
