"""Memory's questions asked backwards: how much fits, on which device, on how many, and what to change."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from thermoscope.catalogue.hardware import Hardware
from thermoscope.planning.memory import device, inference, training
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.inference import Inference
from thermoscope.planning.memory.parallel import Parallel
from thermoscope.planning.memory.plan import Plan
from thermoscope.planning.memory.training import Training

Job = Training | Inference
COUNTS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64, 128, 256, 512, 1024)  # devices that machines have
MOST_BATCH = 2**16
LEAST = 0.01  # of what is needed: a change that saves less is none


def plan(job: Job) -> Plan:
    """What a job takes."""
    return training.plan(job) if isinstance(job, Training) else inference.plan(job)


def fits(job: Job, on: Hardware) -> bool:
    """Whether it fits each of the devices that the job names."""
    return device.needed(plan(job)) <= device.usable(on)


def largest(fit: Callable[[int], bool], most: int) -> int:
    """The largest whole number from 1 to `most` that fits, where all smaller ones do; 0 where none does."""
    low, high = 0, 1
    while high <= most and fit(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fit(middle) else (low, middle)
    return low


def largest_batch(job: Job, on: Hardware) -> int:
    """The most sequences at once; 0 where one does not fit."""
    return largest(lambda batch: fits(replace(job, batch=batch), on), MOST_BATCH)


def largest_sequence(job: Job, on: Hardware) -> int:
    """The longest sequence, in tokens, up to the model's context and in steps that its sharing allows."""
    grain = job.parallel.context
    return grain * largest(
        lambda part: fits(replace(job, sequence=part * grain), on), job.shape.context // grain
    )


def largest_rank(job: Training, on: Hardware) -> int:
    """The largest rank of the adapter, up to the smallest side of a matrix that has one."""
    adapter = job.adapter
    assert adapter is not None
    sides = [min(each.rows, each.columns) for each in adapter.on(job.shape, job.shape.layers - 1)]

    def fit(rank: int) -> bool:
        return fits(replace(job, adapter=replace(adapter, rank=rank)), on)

    return largest(fit, min(sides, default=job.shape.hidden))


def fewest_devices(job: Job, on: Hardware, spread: "Spread | None" = None) -> int | None:
    """How many such devices are enough, of the counts that machines have; None: more than all of these."""
    each = spread or Spread(job)
    return next((count for count in COUNTS if each.needed(count) <= device.usable(on)), None)


class Spread:
    """What a job needs of each of several devices; asked often, so every count is planned once.

    Training is spread by FSDP2, the same batch on each; running by tensor parallelism.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._known: dict[int, float] = {}

    def needed(self, count: int) -> float:
        """Bytes of each of so many devices; infinite where the model does not divide."""
        if count not in self._known:
            job = _spread(self._job, count)
            self._known[count] = math.inf if job is None else device.needed(plan(job))
        return self._known[count]


def _spread(job: Job, count: int) -> Job | None:
    if isinstance(job, Training):
        return replace(job, parallel=Parallel(data=count, sharding="fsdp2" if count > 1 else "none"))
    shape = job.shape
    if any(each % count for each in (shape.heads, shape.kv_heads, shape.ffn)):
        return None  # tensor parallelism divides heads and columns
    return replace(job, parallel=Parallel(tensor=count))


class Change(NamedTuple):
    """Something to do otherwise, what it costs, and the job then."""

    what: str
    cost: str
    job: Job


def changes(job: Job) -> Iterator[Change]:
    """Single changes that save memory, cheapest first: what changes no number, then what takes time, then
    quality.
    """
    if isinstance(job, Inference):
        yield from _running(job)
        return
    if job.loss != "liger" and "chunk" not in job.loss:
        yield Change("loss liger", "nothing: the same loss, worked out in pieces", replace(job, loss="liger"))
    if job.attention == "eager":
        yield Change("attention flash", "nothing", replace(job, attention="flash"))
    if job.optimizer == "adamw":
        yield Change("optimizer adamw-fused", "nothing", replace(job, optimizer="adamw-fused"))
    if job.checkpointing != "full":
        yield Change("checkpointing full", "about a third more time", replace(job, checkpointing="full"))
    if job.batch > 1:
        one = replace(job, batch=1, accumulation=job.accumulation * job.batch)
        yield Change(
            f"batch 1, accumulation {one.accumulation}", "time, where a batch of 1 fills no GPU", one
        )
    if job.optimizer.startswith("adamw") and job.whole:
        yield Change("optimizer adamw-8bit", "moments in 8 bits", replace(job, optimizer="adamw-8bit"))
    if job.offload == "none" and job.whole:
        yield Change("offload optimizer", "the step at PCIe's pace", replace(job, offload="optimizer"))
    if job.method in ("full", "lora"):
        precision = _narrow(job.precision)
        small = replace(job, method="lora", adapter=job.adapter or Adapter(rank=16), precision=precision)
        also = "" if precision == job.precision else f", precision {precision}"
        if job.whole:
            yield Change(f"method lora{also}", "only an adapter is trained", small)
        four = replace(small, method="qlora", wide_stream=True)  # as peft prepares one
        yield Change(f"method qlora{also}", "frozen weights in 4 bits", four)
    if job.sequence > 1024:
        yield Change("seq 1024", "longer rows are cut", replace(job, sequence=1024))


def _narrow(precision: training.Precision) -> training.Precision:
    return "bf16" if precision in ("mixed", "amp", "fp32") else precision


def _running(job: Inference) -> Iterator[Change]:
    if job.kv not in ("fp8", "int8", "int4"):
        yield Change("kv fp8", "a cache of 8 bits", replace(job, kv="fp8"))
    if job.batch > 1:
        yield Change("batch 1", "fewer answers at once", replace(job, batch=1))
    for form in ("int8", "awq-4bit"):
        if job.weights in ("fp32", "bf16", "fp16"):
            yield Change(f"weights {form}", "rounded weights", replace(job, weights=form))


@dataclass(frozen=True)
class Cure:
    """A change with what the job then needs of a device, and whether that fits."""

    change: Change
    needed: float
    fits: bool


def cures(job: Job, on: Hardware) -> list[Cure]:
    """Every single change that saves anything to speak of, with its effect, in the order of `changes`."""
    tried = [(change, device.needed(plan(change.job))) for change in changes(job)]
    most = (1 - LEAST) * device.needed(plan(job))
    return [Cure(change, needed, needed <= device.usable(on)) for change, needed in tried if needed < most]
