"""A traced step beside the planned one, for the card memory."""

from collections.abc import Mapping

from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.planning.memory.plan import Plan
from thermoscope.planning.memory.training import WORKSPACE

GIB = 2**30
TOLERANCE = 0.03  # of the traced peak
COLUMNS = (
    Column("phase", "Part of the step; peak is the greatest"),
    Column("planned", "Counted from the shape, without cuBLAS's workspace", "GiB", ".3f"),
    Column("traced", "Added up over the real step's tensors", "GiB", ".3f"),
    Column("difference", "Of the planned from the traced", "%", "+.2f"),
)


def tracing(plan: Plan, traced: Mapping[str, float]) -> Reading:
    """The two in a table, phase by phase, and a check on the peak.

    `traced`: bytes of each phase, as `tuning.process.traced` gives them.
    """
    planned = {phase: sum(plan.phases[phase].values()) - WORKSPACE for phase in traced}
    pairs = {phase: (planned[phase], traced[phase]) for phase in traced}
    pairs["peak"] = (max(planned.values()), max(traced.values()))
    rows: list[tuple[Cell, ...]] = [
        (phase, ours / GIB, theirs / GIB, 100 * (ours / theirs - 1))
        for phase, (ours, theirs) in pairs.items()
    ]
    ours, theirs = pairs["peak"]
    how = "the plan's peak, and that of a traced step of transformers' network, without cuBLAS's workspace"
    return Reading(
        findings=[
            f"A traced step peaks at {theirs / GIB:.2f} GiB, in the phase "
            f"{max(traced, key=lambda phase: traced[phase])}; the plan is {100 * (ours / theirs - 1):+.1f}% "
            "from it."
        ],
        tables=[Table("trace", "The plan beside a traced step", COLUMNS, rows)],
        checks=[Check("plan = trace", how, abs(ours / theirs - 1), TOLERANCE)],
    )
