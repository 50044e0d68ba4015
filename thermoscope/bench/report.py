"""Rounds of raw figures -> medians, limits and shares."""

from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

from thermoscope.models.kernels.bandwidth import Bandwidth


class Run(NamedTuple):
    """One measurement of decoding: tokens a second, and seconds by part of the mean step."""

    rate: float
    step: dict[str, float]


@dataclass
class Decode:
    """Decoding of `batch` answers at once, each after `depth` tokens.

    - `cache`: bytes of keys and values that a step in the middle of the measurement reads.
    - `peers`: a peer's name -> tokens a second of its rounds.
    """

    batch: int
    depth: int
    tokens: int
    cache: int
    runs: list[Run] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Prefill:
    """Reading a prompt of so many tokens, the first token of the answer drawn: tokens a second by round."""

    prompt: int
    runs: list[float] = field(default_factory=list)
    peers: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Report:
    """What was measured. `weights`: bytes that every step reads. `bandwidths`: one or more, of each round."""

    about: dict[str, Any]
    bandwidths: list[Bandwidth]
    weights: int
    prefills: list[Prefill]
    decodes: list[Decode]
    interrupted: bool = False

    @property
    def bandwidth(self) -> float:
        """Bytes a second, the median."""
        return median(each.rate for each in self.bandwidths)

    def to_dict(self) -> dict[str, Any]:
        """Figures as medians over rounds; what was never measured is left out."""
        return {
            **self.about,
            "bandwidth": {"bytes_per_second": self.bandwidth, "how": self.bandwidths[0].how},
            "weight_bytes": self.weights,
            "prefill": [
                {"prompt": each.prompt, "tokens_per_second": median(each.runs), "peers": _middles(each.peers)}
                for each in self.prefills
                if each.runs
            ],
            "decode": [self._decode(each) for each in self.decodes if each.runs],
            "interrupted": self.interrupted,
        }

    def _decode(self, case: Decode) -> dict[str, Any]:
        """`share`: of the speed at which the weights alone could be read; `share_with_cache` counts both.

        The step is that of the round in the middle, so that its parts sum to it.
        """
        rate = median(run.rate for run in case.runs)
        steps = sorted((run.step for run in case.runs), key=lambda step: sum(step.values()))
        step = steps[len(steps) // 2]
        limit, with_cache = (read / self.bandwidth for read in (self.weights, self.weights + case.cache))
        return {
            "batch": case.batch,
            "depth": case.depth,
            "tokens": case.tokens,
            "rounds": len(case.runs),
            "tokens_per_second": rate,
            "step_ms": sum(step.values()) * 1e3,
            "parts_ms": {part: seconds * 1e3 for part, seconds in step.items()},
            "cache_bytes": case.cache,
            "limit_ms": limit * 1e3,
            "limit_with_cache_ms": with_cache * 1e3,
            "share": rate / case.batch * limit,
            "share_with_cache": rate / case.batch * with_cache,
            "peers": _middles(case.peers),
        }


def _middles(peers: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(speeds) for name, speeds in peers.items() if speeds}
