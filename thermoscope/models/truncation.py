"""`laws/truncation` and its sums where all of a vocabulary is looked at: by the own kernel where it is.

The laws say what each number is; these are the same, in the time of a sampler. Few logits, ends of the
temperature, and rules that only one engine has are left to the laws themselves.
"""

import ctypes
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from thermoscope.laws import boltzmann, dynamic_temperature, truncation
from thermoscope.laws.truncation import EQUAL, Kept, Ties
from thermoscope.models.kernels import build

FEW = 1024  # logits that numpy looks through before the kernel is called


def mass(logits: Float[np.ndarray, "some"], temperature: float, greatest: float) -> float:
    """Σ exp((z − greatest) / T), for T in (0, ∞]."""
    if not _native(logits, temperature):
        return float(boltzmann.weights(logits, temperature, greatest=greatest).sum())
    return _weigh(logits, temperature, greatest)[0]


def entropy(logits: Float[np.ndarray, "some"]) -> float:
    """In nats, at T = 1."""
    if not _native(logits, 1.0):
        return dynamic_temperature.entropy(logits)
    total, moment = _weigh(logits, 1.0, float(logits.max()))
    return max(0.0, math.log(total) - moment / total)


def nucleus(
    logits: Float[np.ndarray, "some"],
    p: float,
    temperature: float = 1.0,
    *,
    mass: float | None = None,
    beyond: bool = False,
) -> Kept:
    """`truncation.nucleus` of logits that are a distribution's."""
    if not _native(logits, temperature) or p == 1:
        return truncation.nucleus(logits, p, temperature, mass=mass, beyond=beyond)
    greatest = float(logits.max())
    if mass is None:
        mass = _weigh(logits, temperature, greatest)[0]
    return _fewest(logits, p, temperature, greatest, 0.0, mass, beyond)


def typical(
    logits: Float[np.ndarray, "vocab"],
    p: float,
    temperature: float = 1.0,
    *,
    ties: Ties = "lower",
    beyond: bool = False,
) -> Kept:
    """`truncation.typical` of logits that are a distribution's."""
    if not _native(logits, temperature) or p == 1 or ties == "all":
        return truncation.typical(logits, p, temperature, ties=ties, beyond=beyond)
    greatest = float(logits.max())
    total, moment = _weigh(logits, temperature, greatest)
    middle = moment / total
    if middle == 0:  # one token has all the mass
        return truncation.typical(logits, p, temperature, beyond=beyond)
    return _fewest(logits, p, temperature, greatest, middle, total, beyond)


LAWS: Mapping[str, Callable[..., Kept]] = MappingProxyType({"top_p": nucleus, "typical_p": typical})


def _native(logits: Float[np.ndarray, "some"], temperature: float) -> bool:
    return len(logits) > FEW and 0 < temperature < math.inf and build.available()


def _weigh(logits: Float[np.ndarray, "some"], temperature: float, greatest: float) -> tuple[float, float]:
    """Σ w and Σ w x with x = (z − greatest) / T and w = exp(x)."""
    library, sums = build.loaded(), (ctypes.c_double * 2)()
    logits = np.ascontiguousarray(logits, dtype=np.float64)
    library.weigh(
        logits.ctypes.data, len(logits), greatest, temperature, library.threads_for(len(logits)), sums
    )
    return sums[0], sums[1]


def _fewest(
    logits: Float[np.ndarray, "some"],
    p: float,
    temperature: float,
    greatest: float,
    middle: float,
    mass: float,
    beyond: bool,
) -> Kept:
    logits, members = np.ascontiguousarray(logits, dtype=np.float64), np.empty(len(logits), dtype=np.int64)
    goal = p * mass * (1 + EQUAL if beyond else 1 - EQUAL)
    count = build.loaded().fewest(
        logits.ctypes.data, len(logits), greatest, temperature, middle, goal, beyond, members.ctypes.data
    )
    return Kept(logits, members[:count], temperature, mass)
