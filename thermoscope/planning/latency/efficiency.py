"""What kernels reach of a device's ceilings, by kind, framework and device; fitted to measured times.

The numbers stand in efficiency.json beside this file. benchmarks/latency_fit.py wrote them, from half of the
rows of each source; no name of a model takes part.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

HardwareClass = Literal["server", "desktop", "capped", "unified", "cpu"]
Phase = Literal["component", "prefill", "decode", "e2e"]


class Spread(NamedTuple):
    """Measured over predicted: between `low` and `high` lay nine tenths of `rows` that no constant was
    fitted to.
    """

    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Efficiency:
    """Named factors, each 1 where it is not known; what applies to a component is multiplied.

    - `factors`: shares of a ceiling, and seconds for what ends in overhead, host or pass.
    - `seen`, `unseen`: how far predictions lie off by phase, for rows of a source that half of was fitted to,
      and of sources that were left out whole. `known`: frameworks and generations of devices that were
      measured, by phase.
    """

    factors: Mapping[str, float]
    seen: Mapping[str, Spread] = field(default_factory=dict)
    unseen: Mapping[str, Spread] = field(default_factory=dict)
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def product(self, names: Sequence[str]) -> float:
        """The product of some factors."""
        return math.prod(self.factors.get(name, 1.0) for name in names)


def case(phase: str, *, several: bool, unpacks: bool) -> str:
    """The name that a spread stands under: several devices, and prompts through quantised weights, apart."""
    if several:
        return f"{phase}, several devices"
    return f"{phase}, quantised" if unpacks and phase == "prefill" else phase


@cache
def fitted() -> Efficiency:
    """The factors that come with the program."""
    text = (files(__package__) / "efficiency.json").read_text(encoding="utf-8")
    plain = json.loads(text)
    seen, unseen = (
        {phase: Spread(*each) for phase, each in plain[key].items()} for key in ("seen", "unseen")
    )
    return Efficiency(plain["factors"], seen, unseen, plain["known"])
