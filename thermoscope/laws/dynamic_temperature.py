r"""A temperature that follows the entropy: low where the model is sure, high where it is not.

$$T = T_{\min} + (T_{\max} - T_{\min}) \left(\frac{S}{\log n}\right)^{a}, \quad
T_{\min} = \max(0, T_0 - r), \; T_{\max} = T_0 + r$$

Symbols: $S$ is the entropy of what is given, in nats, at T = 1, and $n$ how many tokens that are, without
those that were cut off ($-\infty$); $T_0$ is the asked temperature, $r$ the `spread` around it, $a$ the
`exponent`. One token alone, or $r = 0$: $T_0$. $T_0 = \infty$ stays. Errors: `InvalidRequest` for a number
that is out of its range, and `boltzmann`'s for logits that are no distribution's.

Source: kalomaze 2023, "Dynamic Temperature Sampling"; llama.cpp, `llama_sampler_init_temp_ext`.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from thermoscope.laws import boltzmann
from thermoscope.laws.ranges import within

Entropy = Callable[[Float[np.ndarray, "some"]], float]


def entropy(logits: Float[np.ndarray, "some"]) -> float:
    """In nats, at T = 1, of those that were not cut off."""
    return float(boltzmann.state(logits[np.isfinite(logits)]).entropy)


def temperature(
    logits: Float[np.ndarray, "some"],
    middle: float,
    spread: float,
    exponent: float = 1.0,
    *,
    masked: int = 0,
    entropy: Entropy = entropy,
) -> float:
    """T for these logits; `middle` is the asked temperature.

    `masked`: tokens that count in n beside them, for an engine that cuts off without forgetting. `entropy`:
    who computes it.
    """
    boltzmann.check_temperature(middle)
    within("dynatemp_range", spread, 0, math.inf)
    within("dynatemp_exponent", exponent, 0, math.inf)
    z = boltzmann.checked(logits)
    n = int(np.count_nonzero(z > -np.inf)) + masked
    if spread == 0 or n == 1 or math.isinf(middle):
        return middle
    share = min(1.0, entropy(z) / math.log(n))
    low, high = max(0.0, middle - spread), middle + spread
    way = share**exponent
    return low + (high - low) * way if way else low  # the way may be endless: 0 of it is 0
