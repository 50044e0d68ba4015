"""Self-BLEU (Zhu et al. 2018, Texygen): how alike passages are, as BLEU of each against all the others."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

ORDER = 4
NOTHING = 0.1  # matches counted where there is none: NLTK's smoothing 1, which the paper's script takes


def self_bleu(passages: Sequence[Sequence[int]]) -> Float[np.ndarray, "passages"]:
    r"""BLEU-4 of every passage against all others as references (Papineni et al. 2002, eq. 1-3).

    $\exp(\min(0, 1 - r/c)) \prod_{n=1}^4 p_n^{1/4}$: $p_n$ is the share of a passage's n-grams that some
    reference has, too, each counted at most as often as in the one reference that has it most often; $c$ is
    the passage's length, $r$ that of the reference closest to it (the shorter of two). An order without a
    match counts `NOTHING`; a passage shorter than an order has one n-gram of it that matches nothing.
    """
    lengths = [len(passage) for passage in passages]
    logs = np.zeros(len(passages))
    for order in range(1, ORDER + 1):
        grams = [
            Counter(tuple(passage[start : start + order]) for start in range(len(passage) - order + 1))
            for passage in passages
        ]
        most = _greatest_two(grams)
        for number, counts in enumerate(grams):
            matched = sum(
                min(count, most[gram][1] if count == most[gram][0] else most[gram][0])
                for gram, count in counts.items()
            )
            logs[number] += math.log((matched or NOTHING) / max(1, counts.total())) / ORDER
    for number, length in enumerate(lengths):
        others = lengths[:number] + lengths[number + 1 :]
        closest = min(others, key=lambda other: (abs(other - length), other))
        logs[number] += min(0.0, 1 - closest / length)
    return np.exp(logs)


def _greatest_two(grams: Sequence[Counter[tuple[int, ...]]]) -> dict[tuple[int, ...], tuple[int, int]]:
    """An n-gram's two greatest counts among the passages: the second is that without the first's passage."""
    most: dict[tuple[int, ...], tuple[int, int]] = {}
    for counts in grams:
        for gram, count in counts.items():
            first, second = most.get(gram, (0, 0))
            most[gram] = (max(first, count), max(second, min(first, count)))
    return most
