"""A reading taken from a terminal, and shown there."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table as Grid
from rich.text import Text

from thermoscope.cli import options
from thermoscope.cli.grids import grids
from thermoscope.cli.terminal import cells, console, visible
from thermoscope.instruments.shape.formula import unicode
from thermoscope.instruments.shape.reading import Check, Reading

if TYPE_CHECKING:
    from thermoscope.instruments import Instrument
    from thermoscope.instruments.shape.lab import Progress
    from thermoscope.instruments.shape.settings import Settings

SLOTS = 8


def take(
    instrument: "Instrument", settings: "Settings", name: str, loading: dict[str, Any], *, quiet: bool
) -> Reading:
    """Read, with a bar on stderr while it takes long; the model is closed at the end.

    `name`: of the model; `loading`: the options that say how it runs.
    """
    from thermoscope.instruments.shape.lab import Lab

    with _bar(quiet) as watch:
        lab = Lab(lambda: options.load_model(name, **loading, slots=SLOTS, progress=not quiet), watch=watch)
        try:
            return instrument.read(settings, lab)
        finally:
            if lab.loaded is not None:
                lab.loaded.close()


def show(reading: Reading) -> None:
    """The whole reading as text: what it shows, the tables, and what was checked."""
    out = console()
    out.print(Text(reading.question, style="bold"))
    out.print(Text(unicode(reading.law), style="dim"))
    if reading.model is not None:
        out.print(Text(visible(f"{reading.model['name']}, {reading.model['precision']}"), style="dim"))
    out.print()
    for finding in reading.findings:
        out.print(Text(visible(finding)))
    for table in (each for each in reading.tables if not each.detail):
        out.print()
        for grid in grids(table, out.width):
            out.print(grid)
    out.print()
    out.print(_checks(reading.checks))
    for remark in reading.notes:
        out.print(Text(visible(remark), style="dim"))


@contextmanager
def _bar(quiet: bool) -> "Iterator[Callable[[Progress], None]]":
    """What to tell of progress. The bar appears with the first of it: loading a model shows its own."""
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=quiet,
    )
    task = bar.add_task("", total=None)

    def watch(progress: "Progress") -> None:
        bar.start()
        bar.update(task, description=progress.what, completed=progress.done, total=progress.total or None)

    try:
        yield watch
    finally:
        bar.stop()


def _checks(checks: Sequence[Check]) -> Grid:
    grid = Grid(title="checks", title_justify="left", title_style="bold")
    for heading in ("", "check", "residual", "allowed", "how"):
        grid.add_column(heading, overflow="fold")
    for check in checks:
        mark = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
        numbers = (f"{check.residual:.2g}", f"{check.tolerance:.2g}")
        grid.add_row(mark, *cells(check.name, *numbers, check.how))
    return grid
