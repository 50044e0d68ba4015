r"""Mirostat 2: a cutoff on surprise that is steered so that the mean surprise stays where it is wanted.

Before a token, those whose surprise $-\log p$ is above $\mu$ are cut off (the best one never); after it,

$$\mu \leftarrow \mu - \eta\,(s - \tau)$$

Symbols: $s$ is the drawn token's surprise, $\tau$ the wanted one, $\eta$ the learning rate, a pure number.
$\mu$ starts at $2\tau$. All are in bits here, as in the paper and in every engine that has it; the cutoff is
a probability, $2^{-\mu}$, for `truncation.epsilon`. $\tau = \infty$ cuts nothing.

Source: Basu et al. 2021, "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity",
algorithm 2.
"""

import math


def start(tau: float) -> float:
    """μ before the first token, in bits."""
    return 2 * tau


def cutoff(mu: float) -> float:
    """The probability of a token with a surprise of μ bits; 1 where μ is below 0: only the best is left."""
    return math.exp2(-max(mu, 0.0))


def steered(mu: float, logprob: float, tau: float, eta: float) -> float:
    """μ after a token with this log-probability (nats), in bits."""
    return mu - eta * (-logprob / math.log(2) - tau) if math.isfinite(mu) else mu
