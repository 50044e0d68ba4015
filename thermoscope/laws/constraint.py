r"""What a grammar's mask costs, and how far its answers are from the model's own that fit the grammar.

At every step the mask leaves the tokens that the grammar allows, which have the mass $m_t$ in the model's own
distribution, and a token is drawn from them. So an answer $y$ of tokens $y_1 \ldots y_n$ is drawn from

$$q(y) = \prod_t \frac{p(y_t | y_{<t})}{m_t} = p(y)\, e^{W(y)}, \qquad W(y) = -\sum_t \log m_t$$

where $W$ is the work of the constraint, in nats. The model's own distribution among the answers that fit is
$p(y) / Z$ with $Z = \sum_y p(y)$. The two differ, for a mask cannot see which beginnings lead where the model
would not go:

$$\mathrm{KL}(q \,\|\, p / Z) = \mathbb{E}_q[W] + \log Z \ge 0$$

the mean work beyond the least, $-\log Z$, which drawing until an answer fits by itself would cost.

Symbols: `log_p`: $\log p(y)$ of every answer that the grammar allows, [answers], its end included where it is
drawn. `work`: $W(y)$ of each, [answers]. Natural logarithms.

Errors: `InvalidRequest` for shapes that differ, for none, or where $\sum_y q(y)$ misses 1.

Source: Park et al. 2024, "Grammar-Aligned Decoding", section 3, for q and p / Z; the identity is the
definition of KL with log q − log p = W.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from thermoscope.errors import InvalidRequest

ROUNDING = 1e-3  # by which a sum of probabilities may miss 1: float32 does, over a large vocabulary


class Cost(NamedTuple):
    """What the constraint does, in nats.

    - `kl`: KL(q ‖ p / Z). `work`: the mean of W under q. `log_mass`: log Z.
    """

    kl: float
    work: float
    log_mass: float


def cost(log_p: Float[np.ndarray, "answers"], work: Float[np.ndarray, "answers"]) -> Cost:
    """The mean work, log Z, and by the identity the divergence."""
    q = drawn(log_p, work)
    mean = float((q * work).sum())
    log_mass = float(np.logaddexp.reduce(log_p))
    return Cost(max(0.0, mean + log_mass), mean, log_mass)


def drawn(
    log_p: Float[np.ndarray, "answers"], work: Float[np.ndarray, "answers"]
) -> Float[np.ndarray, "answers"]:
    """q(y): how probable the mask makes each answer."""
    if log_p.shape != work.shape or not log_p.size:
        raise InvalidRequest(
            f"answers: got {log_p.shape} log-probabilities and {work.shape} works, expected one of each for "
            "every answer, and at least one."
        )
    q: Float[np.ndarray, "answers"] = np.exp(log_p + work)
    if abs(q.sum() - 1) > ROUNDING:
        raise InvalidRequest(
            f"answers: got probabilities that sum to {q.sum():.6g}, expected 1; give every answer that the "
            "grammar allows, once."
        )
    return q
