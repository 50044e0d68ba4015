"""A reading's table in a terminal: one grid, or several below each other where it is too wide for one."""

from collections.abc import Iterator

from rich.cells import cell_len
from rich.table import Table as Grid
from rich.text import Text

from thermoscope.cli.terminal import cells, visible
from thermoscope.instruments.shape.page import shown
from thermoscope.instruments.shape.reading import Column, Table

FOLDED = 24  # cells across that a column of words is given at least, if it has as many
FRAME = 3  # cells across that a column takes beside its own: a border and two spaces


def grids(table: Table, width: int) -> Iterator[Grid]:
    """The table's columns in groups that fit into `width`, each after the first column."""
    texts = [
        [visible(shown(cell, column)) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]
    needed = [_needed(table, index, [row[index] for row in texts]) for index in range(len(table.columns))]
    for number, group in enumerate(groups(needed, width)):
        title = visible(table.title) if number == 0 else ""
        grid = Grid(title=title or None, title_justify="left", title_style="bold")
        for index in group:
            grid.add_column(
                Text(_heading(table.columns[index])),
                justify="left" if _wordy(table, index) else "right",
                overflow="fold",
            )
        for row in texts:
            grid.add_row(*cells(*(row[index] for index in group)))
        yield grid


def groups(needed: list[int], width: int) -> list[list[int]]:
    """Columns by number, in order; each group begins with column 0 and has another, if there is one.

    `needed`: cells across of each column's content.
    """
    found = [[0]]
    for index in range(1, len(needed)):
        group = [*found[-1], index]
        if len(found[-1]) > 1 and sum(needed[each] + FRAME for each in group) + 1 > width:
            found.append([0, index])
        else:
            found[-1] = group
    return found


def _needed(table: Table, index: int, column: list[str]) -> int:
    """Cells across that a column takes at least, to be read: numbers are not folded, words may be."""
    heading = max(map(cell_len, _heading(table.columns[index]).split("\n")))
    widest = max((cell_len(line) for text in column for line in text.split("\n")), default=0)
    return max(heading, min(widest, FOLDED) if _wordy(table, index) else widest)


def _wordy(table: Table, index: int) -> bool:
    return any(isinstance(row[index], str) for row in table.rows)


def _heading(column: Column) -> str:
    return f"{column.key}\n[{column.unit}]" if column.unit else column.key
