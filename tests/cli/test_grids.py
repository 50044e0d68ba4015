"""A table that is wider than the terminal, in groups of columns."""

import io

import pytest
from rich.console import Console

from thermoscope.cli.grids import grids, groups
from thermoscope.instruments.shape.reading import Column, Table

NAMES = [f"column_{number}" for number in range(12)]
TABLE = Table(
    "wide", "A wide table", [Column("name", "Whose row"), *(Column(name, "A number") for name in NAMES)],
    [("first", *range(1000, 1012)), ("second", *range(2000, 2012))],
)  # fmt: skip


def printed(table, width):
    out = Console(file=io.StringIO(), width=width)
    for grid in grids(table, width):
        out.print(grid)
    return out.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_number_is_cut_and_every_group_names_its_rows(width):
    text = printed(TABLE, width)
    assert max(map(len, text.splitlines())) <= width
    for word in (*NAMES, *map(str, range(1000, 1012)), *map(str, range(2000, 2012))):
        assert text.count(word) == 1 or word == "column_1"
    assert text.count("first") == text.count("second") == text.count("┏") > (width < 120)
    assert text.count("A wide table") == 1


def test_a_table_that_fits_is_one_grid():
    assert len(list(grids(TABLE, 200))) == 1


def test_a_column_of_words_is_folded_before_the_table_is_split():
    table = Table("t", "T", [Column("name", "Whose"), Column("why", "Words")], [("a", "many words " * 20)])
    assert len(list(grids(table, 40))) == 1


@pytest.mark.parametrize(
    ("needed", "width", "found"),
    [
        ([5], 10, [[0]]),
        ([5, 5, 5], 25, [[0, 1, 2]]),
        ([5, 5, 5], 24, [[0, 1], [0, 2]]),
        ([50, 50, 50], 10, [[0, 1], [0, 2]]),
    ],
)
def test_groups_hold_as_many_columns_as_fit(needed, width, found):
    assert groups(needed, width) == found
