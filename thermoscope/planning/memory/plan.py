"""The answer of a memory planner: bytes by phase and by item."""

from collections.abc import Mapping
from dataclasses import dataclass

Items = Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """Bytes on the fullest device, by phase and item. `steady`: what stays in all phases.

    `trained`: how many numbers are trained.
    """

    phases: Mapping[str, Items]
    steady: Items
    trained: int = 0

    @property
    def peak_phase(self) -> str:
        """The phase that stands highest."""
        return max(self.phases, key=lambda name: sum(self.phases[name].values()))

    @property
    def peak(self) -> float:
        """Bytes of it."""
        return sum(self.phases[self.peak_phase].values())


def nonzero(items: Items) -> Items:
    """The items that take anything."""
    return {name: size for name, size in items.items() if size}
