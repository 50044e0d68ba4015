"""What a device has and can do: memory, bandwidth, matrix rates; no torch.

Datasheet values and what was measured stand side by side. What nobody knows is absent, never infinite.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from typing import Any

from thermoscope.catalogue.names import nearest, plain
from thermoscope.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One device.

    - `memory_bytes`: what is sold. `usable_bytes`: what a process was seen to get; None is unknown.
    - `bandwidth`: bytes a second from and to its own memory, of the datasheet.
    - `rates`: dense FLOP/s of matrix products by precision (fp32, tf32, fp16, bf16, fp8, int8, int4, fp4),
      of the datasheet, accumulated in fp32; a precision that is absent is unknown or not there.
    - `measured_rates`: what large square products reached, by precision; `measured_source` says who
      measured.
    - `multiprocessors`: SMs, compute units or GPU cores. `l2_bytes`: the last cache before memory.
    - `link`, `link_bandwidth`: what joins devices of its kind, and bytes a second in one direction; None
      where nothing does, or nobody says. `pcie_bandwidth`: the same to the host.
    - `bf16`: whether its matrix units know bfloat16. `compute_capability`: NVIDIA's number, AMD's gfx name.
    - `power_watts`: what it may draw; `notes`: what else decides how fast it is.
    - `source`, `checked`: where the numbers stand, and which of them were checked there.
    """

    name: str
    vendor: str
    memory_bytes: int
    bandwidth: float
    rates: Mapping[str, float]
    usable_bytes: int | None = None
    measured_rates: Mapping[str, float] = field(default_factory=dict)
    measured_source: str = ""
    generation: str = ""
    compute_capability: str = ""
    multiprocessors: int | None = None
    l2_bytes: int | None = None
    link: str | None = None
    link_bandwidth: float | None = None
    pcie_bandwidth: float | None = None
    bf16: bool = True
    power_watts: float | None = None
    notes: str = ""
    source: str = ""
    checked: str = ""

    def rate(self, precision: str) -> float | None:
        """FLOP/s of matrix products: measured where it was, else of the datasheet; None is unknown."""
        return self.measured_rates.get(precision, self.rates.get(precision))


def hardware(name: str) -> Hardware:
    """The device of this name or alias, in any spelling, with or without its maker's name.

    **Errors:** `InvalidRequest` for a name that is not here; the nearest ones stand in it.
    """
    known = {_plain(each): entry for entry in _entries() for each in (entry["name"], *entry["aliases"])}
    if found := known.get(_plain(name)):
        return _hardware(found)
    hint = nearest(name, {key: entry["name"] for key, entry in known.items()})
    raise InvalidRequest(
        f"gpu: got {name!r}, expected a device that is known here; {hint}`thermoscope hardware` lists all.",
        param="gpu",
    )


def names() -> list[str]:
    """The names of all devices, in the order of their file."""
    return [entry["name"] for entry in _entries()]


def _entries() -> list[dict[str, Any]]:
    text = (files("thermoscope.catalogue") / "accelerators.json").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)["accelerators"]
    return entries


def _plain(name: str) -> str:
    return plain(name.lower().removeprefix("nvidia").removeprefix("amd"))


def _hardware(entry: Mapping[str, Any]) -> Hardware:
    """The file's units, which stand in its keys, to bytes, bytes a second and FLOP/s."""
    scaled = {
        "memory_bytes": ("memory_gib", 2**30),
        "l2_bytes": ("l2_mib", 2**20),
        "bandwidth": ("bandwidth_gb_per_s", 1e9),
        "link_bandwidth": ("link_gb_per_s_per_direction", 1e9),
        "pcie_bandwidth": ("pcie_gb_per_s_per_direction", 1e9),
    }
    values: dict[str, Any] = {
        name: type(unit)(entry[key] * unit) for name, (key, unit) in scaled.items() if key in entry
    }
    for name, key in (("rates", "dense_tflops"), ("measured_rates", "measured_tflops")):
        values[name] = {precision: rate * 1e12 for precision, rate in entry.get(key, {}).items()}
    same = entry.keys() & {each.name for each in fields(Hardware)}
    return Hardware(**values, **{key: entry[key] for key in same})
