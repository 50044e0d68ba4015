"""What truncates a distribution, and by how much: the settings of a sampler's filters."""

import math
from dataclasses import dataclass, fields
from functools import cached_property

from thermoscope.laws.ranges import within


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Temperature and filters, each neutral unless it is given.

    - `temperature`: T in [0, inf]. `dynatemp_range`, `dynatemp_exponent`: `dynamic_temperature`.
    - `top_k`, `top_p`, `min_p`, `typical_p`, `epsilon`, `eta`, `top_n_sigma`: as `truncation` says.
    - `xtc_probability`: how often `truncation.xtc` runs, at `xtc_threshold`.
    - `mirostat_tau`: the wanted surprise, in bits; inf is off. `mirostat_eta`: the learning rate.
    """

    temperature: float = 1.0
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    epsilon: float = 0.0
    eta: float = 0.0
    top_n_sigma: float = math.inf
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat_tau: float = math.inf
    mirostat_eta: float = 0.1

    def __post_init__(self) -> None:
        for name in ("top_p", "min_p", "typical_p", "epsilon", "eta", "xtc_probability", "xtc_threshold"):
            within(name, getattr(self, name), 0, 1)
        for name in ("temperature", "dynatemp_range", "dynatemp_exponent", "top_n_sigma", "mirostat_tau"):
            within(name, getattr(self, name), 0, math.inf)
        within("mirostat_eta", self.mirostat_eta, 0, math.inf)
        within("top_k", self.top_k, 0, math.inf, whole=True)

    @cached_property
    def active(self) -> dict[str, str]:
        """The stages that are not neutral: name -> the field that says so."""
        return {stage: name for stage, name in _DECIDES.items() if getattr(self, name) != _NEUTRAL[name]}


_NEUTRAL = {each.name: each.default for each in fields(Filters)}
_DECIDES = {
    "dynatemp": "dynatemp_range",
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "typical_p": "typical_p",
    "top_p": "top_p",
    "min_p": "min_p",
    "epsilon": "epsilon",
    "eta": "eta",
    "xtc": "xtc_probability",
    "mirostat": "mirostat_tau",
}
