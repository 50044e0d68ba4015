r"""The dice: Gumbel noise that is a function of where it is used, not of what was drawn before.

token = argmax($z / T + g$) draws from softmax($z / T$) when the $g$ are independent standard Gumbel
numbers (Gumbel 1954; Maddison, Tarlow & Minka 2014, "A* Sampling", section 2). Here $g$ is hashed from
(seed, choice, position, token id). So a request gives the same tokens alone, in a batch, streamed, and
with speculation; and a token's noise does not change when another one is filtered out.

The hash is SplitMix64's output function (Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number
Generators", figure 17) in counter mode. 53 of its bits make the uniform number, so that tokens 36 nats
below the best can still be drawn; 24 bits would cut them off.
"""

import numpy as np
from jaxtyping import Float, Int, UInt64

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # the multipliers of SplitMix64
_LARGEST = 1 - 2.0**-53


def gumbel(
    seed: int, choice: int, position: int, tokens: Int[np.ndarray, "some"]
) -> Float[np.ndarray, "some"]:
    r"""Standard Gumbel numbers, $g = -\log(-\log u)$, one for each token id.

    `seed`: any integer, taken modulo 2^64. `choice`: which of a request's answers. `position`: index of
    the token in the answer, from 0.
    """
    return keyed(key(seed, choice, position), tokens)


def key(seed: int, choice: int, position: int) -> int:
    """64 bits that seed, choice and position come to; with them and a token id the noise is known."""
    hashed = 0
    for part in (seed, choice, position):
        hashed = (hashed + part + _GOLDEN) & _MASK
        hashed = (hashed ^ hashed >> 30) * _FIRST & _MASK
        hashed = (hashed ^ hashed >> 27) * _SECOND & _MASK
        hashed ^= hashed >> 31
    return hashed


def keyed(key: int, tokens: Int[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
    """`gumbel` from its key."""
    return from_bits(bits(key, tokens))


def bits(key: int, tokens: Int[np.ndarray, "some"]) -> UInt64[np.ndarray, "some"]:
    """64 hashed bits for each token id."""
    x = tokens.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)
    x ^= x >> np.uint64(30)
    x *= np.uint64(_FIRST)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_SECOND)
    x ^= x >> np.uint64(31)
    return x


def coin(seed: int, choice: int, position: int) -> float:
    """A uniform number in (0, 1) for a token's place, of its own: that of an id that no token has."""
    hashed = bits(key(seed, choice, position), np.array([-1]))
    return float((hashed[0] >> np.uint64(11)) + 0.5) * 2.0**-53


def from_bits(hashed: UInt64[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
    r"""The map from bits to noise, with $w = 1 - u = (k + ½)\,2^{-53}$ and $k$ the upper 53 bits.

    Each $k$ stands for a cell of $w$, $2^{-53}$ wide, and gives its middle. From $w = ½$ on float64 has no
    such middles: two cells share the point between them, and the last one, whose number would be 1, has the
    one below. Only the least noise comes from there. The tail is cut at $w = 2^{-54}$: a token $d$ nats below
    another wins at its rate but for a share of $1 / (24 λ^2)$, $λ = 2^{53} e^{-d}$: 6e-8 at 30, 1% at 36.
    """
    w: Float[np.ndarray, "some"] = ((hashed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return from_tail(np.minimum(w, _LARGEST, out=w))


def from_tail(w: Float[np.ndarray, "some"]) -> Float[np.ndarray, "some"]:
    r"""$g = -\log(-\log u)$ from $w = 1 - u$, in (0, 1), in the same memory.

    Great noise comes from $u$ near 1, where $u$ has no more digits, but $w$ has all of them:
    $-\log u = -\log(1 - w)$, which log1p gives in full.
    """
    np.negative(w, out=w)
    np.log1p(w, out=w)
    np.negative(w, out=w)
    np.log(w, out=w)
    np.negative(w, out=w)
    return w
