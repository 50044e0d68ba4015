"""Memory's questions asked backwards, for the card: how much fits, what to change, which devices."""

from dataclasses import replace

from thermoscope.catalogue import hardware as catalogue
from thermoscope.catalogue.hardware import Hardware
from thermoscope.instruments.shape.figure import Figure, axes, bars
from thermoscope.instruments.shape.reading import Column, Reading, Table
from thermoscope.planning.memory import device as devices
from thermoscope.planning.memory import search
from thermoscope.planning.memory.search import Job
from thermoscope.planning.memory.training import Training

GIB = 2**30

LIMITS = (
    Column("what", "Which number is made as large as fits, the others as they are"),
    Column("asked", "Its value now"),
    Column("largest", "The largest that fits; 0 where nothing does", form=".0f"),
)
CHANGES = (
    Column("change", "A single change"),
    Column("needed", "What each device then needs", "GiB", ".2f"),
    Column("fits", "Whether that fits"),
    Column("cost", "What it costs"),
)
DEVICES = (
    Column("gpu", "Device"),
    Column("usable", "What a process can have", "GiB", ".2f"),
    Column("fits", "Whether the job fits as it is"),
    Column("count", "How many are enough: FSDP2 for training, tensor parallelism for running"),
    Column("batch", "Largest batch on one, up to 65,536", "sequences"),
)


def fitting(job: Job, device: Hardware) -> Reading:
    """What would fit."""
    limits = _limits(job, device)
    cures = search.cures(job, device)
    fits = search.fits(job, device)
    alone, every = _devices(job)
    return Reading(
        findings=[
            *_said(job, device, cures, fits),
            f"Largest that fits: {_sentence(limits)}.",
            *_smallest(every),
        ],
        tables=[
            Table("largest", f"As large as fits {device.name}", LIMITS, limits),
            Table(
                "changes",
                "What one change would do, cheapest first",
                CHANGES,
                [(each.change.what, each.needed / GIB, each.fits, each.change.cost) for each in cures],
            ),
            Table("devices", "Which devices fit", DEVICES, every, detail=True),
        ],
        figures=[_figure(job, alone)],
    )


def _smallest(rows: list[tuple[str, float, bool, int | None, int]]) -> list[str]:
    fitting = [name for name, _, fits, *_ in rows if fits]
    if not fitting:
        return ["No single device of the catalogue fits."]
    return [
        f"{len(fitting)} of {len(rows)} devices of the catalogue fit alone; the smallest is {fitting[0]}."
    ]


def _limits(job: Job, device: Hardware) -> list[tuple[str, int, int]]:
    rows = [
        ("batch", job.batch, search.largest_batch(job, device)),
        ("seq", job.sequence, search.largest_sequence(job, device)),
    ]
    if isinstance(job, Training) and job.adapter is not None:
        rows.append(("rank", job.adapter.rank, search.largest_rank(job, device)))
    return rows


def _sentence(limits: list[tuple[str, int, int]]) -> str:
    return ", ".join(f"{name} {largest:,}" for name, _, largest in limits)


def _said(job: Job, device: Hardware, cures: list[search.Cure], fits: bool) -> list[str]:
    """What to do where it does not fit."""
    if fits:
        return []
    first = next((cure for cure in cures if cure.fits), None)
    count = search.fewest_devices(job, device)
    said = [
        f"The cheapest change that makes it fit: {first.change.what} ({first.change.cost}), "
        f"{first.needed / GIB:.2f} GiB."
        if first
        else "No single change makes it fit."
    ]
    way = "with FSDP2" if isinstance(job, Training) else "with tensor parallelism"
    enough = f"{count} × {device.name} are enough" if count else f"No number of {device.name} is enough"
    return [*said, f"{enough}, {way}."]


def _devices(job: Job) -> tuple[dict[str, float], list[tuple[str, float, bool, int | None, int]]]:
    """A row for each device of the catalogue, smallest first, for the job on one of them."""
    one = replace(job, parallel=type(job.parallel)())
    spread = search.Spread(one)
    rows = []
    for name in catalogue.names():
        device = catalogue.hardware(name)
        usable = devices.usable(device)
        fits = spread.needed(1) <= usable
        count = search.fewest_devices(one, device, spread)
        rows.append((name, usable / GIB, fits, count, search.largest_batch(one, device)))
    rows.sort(key=lambda row: row[1])
    return {row[0]: row[1] for row in rows} | {"": spread.needed(1) / GIB}, rows


def _figure(job: Job, usable: dict[str, float]) -> Figure:
    needed = usable[""]
    names = [name for name in usable if name]
    return Figure(
        "devices",
        f"{job.shape.name}: {needed:.1f} GiB on one device, and what devices have",
        [
            bars([name for name in names if usable[name] >= needed],
                 [usable[name] for name in names if usable[name] >= needed], "fits"),
            bars([name for name in names if usable[name] < needed],
                 [usable[name] for name in names if usable[name] < needed], "does not fit"),
        ],
        axes("device", "usable, GiB", xaxis={"type": "category", "categoryorder": "array",
                                             "categoryarray": names},
             legend={"y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"}),  # names are below
    )  # fmt: skip
