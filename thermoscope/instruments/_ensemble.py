"""The card's line taken literally: energies, Boltzmann weights, and sums over all states.

What the laws compute with care, and in other words, is checked against this.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Ensemble(NamedTuple):
    """Every token as a state.

    - `energy`: E = −z. `weights`: exp(−(E − E_0)/T), from the ground state E_0 up, for exp(−E/T) itself would
      overflow at a low T. At T = 0 all states of the ground have 1. Both [vocab].
    - `z`: the sum of the weights, by math.fsum.
    """

    energy: Float[np.ndarray, "vocab"]
    weights: Float[np.ndarray, "vocab"]
    z: float

    @property
    def p(self) -> Float[np.ndarray, "vocab"]:
        """The probability of each state."""
        return self.weights / self.z

    def moments(self) -> tuple[float, float, float]:
        """⟨E⟩ − E_0, and the second and the third central moment of E."""
        p, above = self.p, self.energy - self.energy.min()
        mean = math.fsum(p * above)
        return mean, math.fsum(p * (above - mean) ** 2), math.fsum(p * (above - mean) ** 3)


def ensemble(z: Float[np.ndarray, "vocab"], temperature: float) -> Ensemble:
    """The ensemble of these logits at T in [0, ∞]."""
    energy = -z
    above = energy - energy.min()
    with np.errstate(over="ignore"):  # at a small T, to an exponent of −inf, whose weight is 0
        weights = (above == 0) * 1.0 if temperature == 0 else np.exp(-above / temperature)
    return Ensemble(energy, weights, math.fsum(weights))
