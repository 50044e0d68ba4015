r"""How long a device takes over a component, and which of its limits decides.

$$t = n \left( \left( t_B^p + t_F^p + u^p \right)^{1/p} + k\, t_0 \right), \qquad
t_B = \frac{B}{\eta_B\, b}, \quad t_F = \frac{F}{\eta_F\, r}$$

$n$ times in a pass; $B$ bytes at bandwidth $b$; $F$ operations at rate $r$; $u$ seconds of unpacking
quantised weights; $k$ kernels, each with an overhead $t_0$ in seconds. $\eta_B$, $\eta_F$ are the shares of
the two ceilings that kernels of this kind reach (`efficiency`). With $p \to \infty$ this is the roofline's
maximum; $p = 2$ is what kernels do near its ridge, where they hide reading behind computing only in part.

The processor launches kernels while the device works, so a pass takes the longer of the two.

**Source:** Williams, Waterman, Patterson, *Roofline*, CACM 52(4), 2009, for the maximum; $p$ is measured.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from thermoscope.catalogue.hardware import Hardware
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.efficiency import Efficiency, HardwareClass
from thermoscope.planning.latency.frameworks import EAGER, Framework
from thermoscope.planning.latency.work import Work

TILE = 64  # rows that matrix units work on at once: fewer take as long; twice as many before Ampere
OVERLAP = 2.0  # reading and computing hide each other in part; ∞ is the maximum of the two
SERIAL = 16  # rows that PyTorch's gather takes one after another; more go side by side
ROUND_TRIP = 1e-6  # seconds of a read of memory that waits for the one before it
HELD = 0.5  # of the last cache, what a kernel finds there of what the one before it wrote

Limit = Literal["bandwidth", "compute", "overhead", "link"]


@dataclass(frozen=True)
class Terms:
    """A component's times in seconds before efficiencies, and the names of those that apply.

    `memory`, `cached`: bytes over the bandwidth, from memory and from the device's last cache; `compute`:
    operations over the rate; `unpack`: weights to unpack over the rate of ordinary float32 operations; all of
    one. `kernels` a component. The names are those of `Efficiency.factors`.
    """

    count: int
    memory: float
    cached: float
    compute: float
    unpack: float
    kernels: int
    memory_factors: tuple[str, ...]
    cached_factors: tuple[str, ...]
    compute_factors: tuple[str, ...]
    unpack_factors: tuple[str, ...]
    overhead_factors: tuple[str, ...]


@dataclass(frozen=True)
class Timed:
    """A component, its seconds in a pass, and what decides them."""

    work: Work
    seconds: float
    limit: Limit


def hardware_class(device: Hardware) -> HardwareClass:
    """Which devices behave alike.

    - `unified`: memory shared with the processor. `capped`: no more than 75 W, so clocks fall under load.
    - `server`: matrix units many times faster than the rest, or 2 TB/s (stacked memory). `desktop`: all
      others.
    """
    if device.vendor == "Apple" or "unified" in device.notes or "Jetson" in device.name:
        return "unified"
    if device.vendor == "CPU":
        return "cpu"
    if device.power_watts is not None and device.power_watts <= 75:
        return "capped"
    vector, matrix = device.rates.get("fp32"), device.rates.get("fp16")
    dense = vector is not None and matrix is not None and matrix >= 6 * vector
    return "server" if dense or device.bandwidth >= 2e12 else "desktop"


def ceiling(device: Hardware, arithmetic: str) -> tuple[float, bool]:
    """FLOP/s of large products, and whether that was measured.

    A device without the precision computes in the next wider one that it has: fp8 and fp4 in 16 bits, bf16 in
    fp32.

    **Errors:** `InvalidRequest` where nothing is known.
    """
    wider = {
        "fp4": ("fp8", "bf16"), "int4": ("int8", "fp16"), "fp8": ("bf16", "fp16"), "int8": ("fp16", "bf16"),
        "bf16": ("fp16",) if device.bf16 else ("fp32",), "fp16": ("bf16", "fp32"), "tf32": ("fp32",),
    }  # fmt: skip
    for each in (arithmetic, *wider.get(arithmetic, ())):
        if each in device.measured_rates:
            return device.measured_rates[each], True
        if each in device.rates:
            return device.rates[each], False
    raise InvalidRequest(
        f"dtype: got {arithmetic!r}, but no rate of {device.name} for it is known; expected one of "
        f"{', '.join(device.rates) or 'none'}.",
        param="dtype",
    )


def terms(work: Work, device: Hardware, framework: Framework) -> Terms:
    """The component's bytes and operations over the device's ceilings."""
    if work.kind == "link":
        return _link(work, device)
    kind = hardware_class(device)
    rate, measured = ceiling(device, work.arithmetic)
    memory, cached, compute = work.bytes / device.bandwidth, 0.0, work.flops / rate
    memory_factors: tuple[str, ...]
    compute_factors: tuple[str, ...] = ()
    match work.kind:
        case "product":
            memory_factors = ("product.memory", f"{framework}.{work.width}.memory", f"{kind}.memory")
            compute_factors = ("product.compute", f"{framework}.{work.width}.compute", f"{kind}.compute")
            if not measured:
                compute_factors += (f"{kind}.unmeasured.compute",)
            tile = 2 * TILE if device.compute_capability.startswith("7.") else TILE
            if work.rows > TILE // 8 and kind != "cpu":
                compute *= -(-work.rows // tile) * tile / work.rows
        case "attention":
            memory_factors = ("attention.memory", f"{framework}.attention.memory")
            compute_factors = ("attention.compute", f"{framework}.attention.compute")
        case _:
            family = "eager" if framework in EAGER else "fused"
            memory_factors = (f"{family}.{work.kind}.memory", f"{framework}.moved.memory")
            if work.kind != "embedding":  # whose table no kernel before it wrote
                near = min(1.0, HELD * (device.l2_bytes or 0) / max(1.0, work.bytes))
                memory, cached = memory * (1 - near), memory * near
            # One multiprocessor takes a whole row, with its share of the bandwidth, however few there are.
            compute = work.bytes / work.rows * (device.multiprocessors or 0) / device.bandwidth
            compute_factors = (f"{family}.{work.kind}.row",)
            if work.kind == "embedding" and work.rows <= SERIAL:
                compute, compute_factors = work.rows * ROUND_TRIP, (f"{family}.gather",)
    unpack = 0.0
    if work.unpacked and "fp32" in device.rates:
        unpack = work.unpacked / device.rates["fp32"]
    generation = device.generation.split(" ")[0]
    overhead_factors = (
        "overhead", f"{work.kind}.overhead", f"{framework}.overhead", f"{generation}.overhead",
    )  # fmt: skip
    return Terms(
        work.count, memory, cached, compute, unpack, work.kernels,
        memory_factors, (*memory_factors, f"{kind}.cache"), compute_factors, (f"{work.width}.unpack",),
        overhead_factors,
    )  # fmt: skip


def _link(work: Work, device: Hardware) -> Terms:
    bandwidth = device.link_bandwidth or device.pcie_bandwidth
    if bandwidth is None:
        raise InvalidRequest(
            f"gpu: how {device.name}s are joined is not known, so several cannot be planned; take one.",
            param="gpu",
        )
    joined = "link" if device.link_bandwidth else "pcie"
    seconds = work.bytes / bandwidth
    return Terms(
        work.count,
        seconds,
        0.0,
        0.0,
        0.0,
        work.kernels,
        (f"{joined}.memory",),
        (),
        (),
        (),
        (f"{joined}.overhead",),
    )


def timed(work: Work, device: Hardware, framework: Framework, efficiency: Efficiency) -> Timed:
    """The component's seconds, and which limit they come from."""
    part = terms(work, device, framework)
    memory = part.memory / efficiency.product(part.memory_factors)
    memory += part.cached / efficiency.product(part.cached_factors)
    compute = part.compute / efficiency.product(part.compute_factors)
    overhead = part.kernels * efficiency.product(part.overhead_factors)
    unpack = part.unpack / efficiency.product(part.unpack_factors)
    power = efficiency.factors.get("overlap", OVERLAP)
    both = (memory**power + compute**power + unpack**power) ** (1 / power)
    limit: Limit = "bandwidth" if memory >= compute else "compute"
    if overhead > both:
        limit = "overhead"
    return Timed(work, part.count * (both + overhead), "link" if work.kind == "link" else limit)


def host_factors(device: Hardware, framework: Framework) -> tuple[str, str]:
    """The names that make the seconds in which the processor launches one kernel."""
    return f"{framework}.host", f"{device.generation.split(' ')[0]}.host"


def launches(works: Iterable[Work]) -> int:
    """Kernels that the processor launches in a pass."""
    return sum(work.count * work.kernels for work in works if work.kind != "link")
