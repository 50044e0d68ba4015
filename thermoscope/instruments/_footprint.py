"""What a job takes, phase by phase: tables, the figure, the checks and the assumptions of the card memory."""

from typing import TYPE_CHECKING

from thermoscope.catalogue.hardware import Hardware
from thermoscope.instruments.shape.figure import Figure, axes, bars, line
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.planning.memory import device as devices
from thermoscope.planning.memory import optimizer, search, stack, storage, training
from thermoscope.planning.memory.inference import Inference
from thermoscope.planning.memory.plan import Plan
from thermoscope.planning.memory.search import Job
from thermoscope.planning.memory.training import Training

if TYPE_CHECKING:
    from thermoscope.instruments.memory import Settings

GIB = 2**30
EXACT = 1e-9
PUBLISHED = 0.005  # of the count that a model's makers give

ITEMS = {
    "weights": "the model's weights",
    "adapter": "what is trained beside frozen weights",
    "gradients": "of what is trained",
    "tied": "a tied table's gradients from its two uses, before they are one",
    "optimizer": "moments and master copies",
    "buckets": "copies of gradients that DDP sends",
    "autocast": "weights that autocast keeps in 16 bits",
    "gathered": "weights (and their gradients) of other devices' shards, here for a moment",
    "checkpoints": "the residual stream at every layer",
    "activations": "what layers keep for the backward pass",
    "layer": "one layer at work",
    "retained": "gradients of frozen layers' inputs, which FSDP1's hooks hold",
    "logits": "logits and all of their size in the loss",
    "stream": "the last layer's output and its norm",
    "temporary": "what the optimizer's step holds for a moment",
    "cache": "keys and values",
    "copies": "what is being quantised",
    "workspace": "cuBLAS's",
}


def footprint(job: Job, device: Hardware) -> Reading:
    """The peak, its phase and its items."""
    plan = search.plan(job)
    below, above = devices.band(plan.peak, "training" if isinstance(job, Training) else "inference")
    needed, usable = devices.needed(plan), devices.usable(device)
    largest = max(plan.phases[plan.peak_phase].items(), key=lambda item: item[1])
    fits = needed <= usable
    count = job.parallel.devices
    each = f"each of {count} × {device.name}" if count > 1 else f"one {device.name}"
    names = [name for name in ITEMS if any(name in items for items in plan.phases.values())]
    columns = [
        Column("phase", "Part of the step"),
        Column("total", "All items", "GiB", ".2f"),
        *(Column(name, ITEMS[name], "GiB", ".2f") for name in names),
    ]
    rows: list[tuple[Cell, ...]] = [
        (phase, sum(items.values()) / GIB, *(items.get(name, 0.0) / GIB for name in names))
        for phase, items in plan.phases.items()
    ]
    return Reading(
        findings=[
            f"{'Fits' if fits else 'Does not fit'} {each}: {needed / GIB:.2f} GiB needed, {usable / GIB:.2f} "
            "GiB usable.",
            f"The peak is {plan.peak / GIB:.2f} GiB ({below / GIB:.2f} to {above / GIB:.2f}), in the phase "
            f"{plan.peak_phase}: most of it is {largest[0]}, {largest[1] / GIB:.2f} GiB.",
            f"Between steps {sum(plan.steady.values()) / GIB:.2f} GiB stay.",
            *_trained(job, plan),
        ],
        tables=[
            Table("phases", f"{job.shape.name}: bytes by phase and item", columns, rows),
            _needed(plan, needed, usable, (below, above)),
        ],
        figures=[_figure(plan, names, needed - plan.peak, usable, job, device)],
    )


def _trained(job: Job, plan: Plan) -> list[str]:
    if isinstance(job, Inference):
        return []
    total = job.shape.parameters
    return [f"{plan.trained:,} of {total:,} parameters are trained ({100 * plan.trained / total:.3g}%)."]


def _needed(plan: Plan, needed: float, usable: float, band: tuple[float, float]) -> Table:
    rows = [
        ("peak", plan.peak / GIB, f"what tensors take, in the phase {plan.peak_phase}"),
        ("from", band[0] / GIB, "the band's lower end"),
        ("to", band[1] / GIB, "its upper end: nine of ten measured runs lie inside"),
        ("pieces", (needed - plan.peak - devices.CONTEXT) / GIB, "what the caching allocator loses"),
        ("context", devices.CONTEXT / GIB, "CUDA's own"),
        ("needed", needed / GIB, "peak, pieces and context"),
        ("usable", usable / GIB, "what a process can have of the device"),
    ]
    columns = (Column("what", "Which"), Column("size", "How much", "GiB", ".2f"), Column("why", "What it is"))
    return Table("needed", "From the peak to the device", columns, rows)


def _figure(
    plan: Plan, names: list[str], overhead: float, usable: float, job: Job, device: Hardware
) -> Figure:
    phases = list(plan.phases)
    stacked = [
        bars(phases, [plan.phases[phase].get(name, 0.0) / GIB for phase in phases], name) for name in names
    ]
    over = bars(phases, [overhead / GIB] * len(phases), "pieces and context", marker={"color": "#cbd5e1"})
    dark = {"dash": "dash", "color": "#0f172a"}
    limit = line(phases, [usable / GIB] * len(phases), f"{device.name}, usable", line=dark)
    return Figure(
        "phases",
        f"{job.shape.name} on {device.name}: memory by phase",
        [*stacked, over, limit],
        axes("phase", "GiB", barmode="stack", xaxis={"type": "category"}),
    )


def checks(job: Job, _: Hardware) -> Reading:
    """Closed forms, beside what was added up layer by layer."""
    shape, found = job.shape, []
    plain = storage.weights(shape, "bf16").total
    found.append(
        Check(
            "W = 2 P",
            "weights in 16 bits, added up matrix by matrix, and twice the parameters",
            abs(plain / (2 * shape.parameters) - 1),
            EXACT,
        )
    )
    if shape.published_parameters:
        gap = abs(shape.parameters / shape.published_parameters - 1)
        how = "parameters counted from the shape, and the count that the model's makers give"
        found.append(Check("P = published", how, gap, PUBLISHED))
    plan = search.plan(job)
    if isinstance(job, Training) and job.checkpointing == "full" and job.parallel.devices == 1:
        tokens = job.batch * (job.sequence + (job.tokens if job.method == "prompt" else 0))
        expected = tokens * shape.layers * shape.hidden * job.stream
        gap = abs(plan.phases["forward"]["checkpoints"] / expected - 1)
        found.append(Check("A = w T L h", "checkpoints, and their closed form", gap, EXACT))
    if isinstance(job, Inference) and not shape.window and job.parallel.devices == 1 and job.kv == "bf16":
        expected = 2 * job.batch * job.sequence * shape.layers * shape.kv_values
        gap = abs(plan.phases["decode"]["cache"] / expected - 1)
        found.append(Check("KV = 2 n L c", "the cache, and its closed form", gap, EXACT))
    return Reading(checks=found)


def assumptions(job: Job, device: Hardware, settings: "Settings") -> list[str]:
    """Everything that the number rests on, one line each."""
    lines = [f"Shape: {job.shape.source}."] if job.shape.source else []
    measured = (
        "measured"
        if device.usable_bytes is not None
        else f"{devices.USABLE:.0%} of what is sold, not measured"
    )
    lines.append(f"Usable memory of {device.name}: {measured}.")
    if isinstance(job, Inference):
        lines.append(f"Weights as {job.weights} ({storage.form(job.weights).source}); cache as {job.kv}.")
        lines.append(f"The whole prompt in one pass, {job.attention} attention.")
        return lines
    numbers = job.numbers
    lines.append(
        f"A trained number takes {numbers.weight} bytes, its gradient {numbers.gradient}, a moment "
        f"{numbers.moment}" + (f", its master copy {numbers.master}" if numbers.master else "") + "."
    )
    if not job.whole:
        lines.append(f"Frozen weights as {job.form}: {storage.form(job.form).source}.")
    lines += [
        f"Optimizer {job.optimizer}: {optimizer.optimizer(job.optimizer).reason}.",
        f"Loss {job.loss}: {stack.loss(job.loss).logit} bytes a logit; {stack.loss(job.loss).reason}.",
        f"Stack {job.stack}: {stack.stack(job.stack).reason}.",
        f"Checkpointing {job.checkpointing}, attention {job.attention}.",
        "Rows are packed full."
        if settings.packing
        else f"The longest row of a batch has {job.sequence} tokens.",
    ]
    if job.wide_stream:
        lines.append("The residual stream is in float32 (peft's prepare_model_for_kbit_training).")
    if optimizer.optimizer(job.optimizer).paged:
        lines.append("Paged states are counted in full; what does not fit goes to the host, and takes time.")
    if job.parallel.devices > 1:
        lines.append(f"Sharding {job.parallel.sharding}; the fullest device is shown.")
    lines.append(f"Workspace: {training.WORKSPACE:,} bytes of cuBLAS.")
    return lines
