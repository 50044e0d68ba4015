"""What Holtzman et al. 2020 measure of generated text, on token ids: repetition, perplexity, Zipf's exponent.

Their Self-BLEU has a file of its own, bleu.py.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

RANKS = 5000  # of the most frequent tokens, as in the paper's own script


def repeated_phrase(tokens: Sequence[int], *, least: int = 2, times: int = 3) -> tuple[int, ...] | None:
    """The shortest phrase of `least` tokens or more that stands `times` times in a row at the end, or None.

    One token said over and over counts: six of it are three phrases of two.
    """
    tokens = tuple(tokens)
    for length in range(least, len(tokens) // times + 1):
        phrase = tokens[-length:]
        if tokens[-length * times :] == phrase * times:
            return phrase
    return None


def perplexity(nats: Float[np.ndarray, "passages"], tokens: Int[np.ndarray, "passages"]) -> float:
    """exp of the mean −log p of a token, every token of every passage counting once.

    `nats`: a passage's sum of −log p. `tokens`: how many it has.
    """
    return float(np.exp(nats.sum() / tokens.sum()))


def zipf(counts: Int[np.ndarray, "vocab"]) -> float:
    """s of frequency ∝ rank^−s: minus the slope of log frequency on log rank, least squares.

    Ranks are of the tokens that occur, `RANKS` at most, each with the same weight.
    """
    frequencies = np.log(np.sort(counts[counts > 0])[::-1][:RANKS])
    ranks = np.log(np.arange(1, len(frequencies) + 1))
    ranks -= ranks.mean()
    return float(-(ranks @ frequencies) / (ranks @ ranks))
