"""The table of an answer's steps: what the sampler saw at each token."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from thermoscope.cli.terminal import cells

if TYPE_CHECKING:
    from thermoscope.engine.trace import Step, Trace

BEST = 3


def steps_table(trace: "Trace", name: Callable[[int], str]) -> Table:
    """A row a token. Logarithms are natural; an alternative stands with its raw probability.

    `name`: how a token is called that adds nothing to the text.
    """
    table = Table(title="steps" if trace.sampling.get("n", 1) == 1 else f"steps of choice {trace.choice}")
    table.add_column("#", justify="right", style="dim")
    table.add_column("token", no_wrap=True)
    for heading in ("id", "logp", "sampler logp", "entropy", "kept", "removed", "ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("best alternatives", overflow="fold")
    for position, step in enumerate(trace.steps):
        table.add_row(str(position), *_cells(step, name))
    return table


def _cells(step: "Step", name: Callable[[int], str]) -> list[str | Text]:
    # Quoted, so that spaces and line ends show; an unfinished character shows its bytes.
    shown = repr(step.bytes)[1:] if step.bytes else name(step.token)
    token = cells(repr(step.text) if step.text else shown)[0]
    if step.record is None:
        return [token, str(step.token), "", "", "", "", "", f"{step.ms:.1f}", ""]
    record = step.record
    others = [other for other in record.alternatives if other.token != step.token][:BEST]
    return [
        token,
        str(step.token),
        f"{record.logprob:.3f}",
        f"{record.sampler_logprob:.3f}",
        f"{record.entropy:.3f}",
        str(record.kept),
        f"{record.removed_mass:.3f}",
        f"{step.ms:.1f}",
        Text("  ".join(f"{other.text!r} {math.exp(other.logprob):.3f}" for other in others)),
    ]
