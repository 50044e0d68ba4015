"""What an instrument says: findings in words, tables, figures, and the checks that it made on itself."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.figure import Figure

if TYPE_CHECKING:
    from thermoscope.engine.steering import Steering

EXACT = 1e-10  # the tolerance of an identity in float64, relative to what it is about

Cell = float | int | str | bool | None


@dataclass(frozen=True)
class Column:
    """One column: its key in JSON, what it means, and its unit ("" for text).

    `form`: how the terminal writes a number, in Python's format language; "r" quotes a text.
    """

    key: str
    meaning: str
    unit: str = ""
    form: str = ".4g"


@dataclass(frozen=True)
class Table:
    """Rows of plain values under described columns. None stands for what is not defined there.

    `detail`: too long for a terminal; JSON and the page have it.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    detail: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{self.name}: got {len(row)} cells, expected {len(self.columns)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, a row as an object."""
        keys = [column.key for column in self.columns]
        return {
            "title": self.title,
            "columns": {
                column.key: {"meaning": column.meaning, "unit": column.unit} for column in self.columns
            },
            "rows": [dict(zip(keys, map(plain, row), strict=True)) for row in self.rows],
        }


@dataclass(frozen=True)
class Check:
    """One number computed a second way: `residual` says how far apart the two are.

    `name` is the identity, `how` says what was compared. A residual that is no number has not passed.
    """

    name: str
    how: str
    residual: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        return bool(self.residual <= self.tolerance)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        residual = str(self.residual) if math.isnan(self.residual) else plain(self.residual)
        return {
            "name": self.name,
            "how": self.how,
            "residual": residual,
            "tolerance": self.tolerance,
            "passed": self.passed,
        }


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look through an instrument.

    - `findings`: what it shows, in sentences. `tables`, `figures`: the same in numbers and pictures.
    - `checks`: at least one, once it is whole. `notes`: where the card's form and the exact one differ, and
      what was left out. `steering`: a vector that was found, for `--save` and for `steer=`.
    - The rest says what was read, and is filled in by the instrument that took it.

    Parts of a reading are readings, which `joined` puts together.
    """

    findings: Sequence[str] = ()
    tables: Sequence[Table] = ()
    checks: Sequence[Check] = ()
    figures: Sequence[Figure] = ()
    notes: Sequence[str] = ()
    steering: "Steering | None" = None
    card: str = ""
    question: str = ""
    law: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def table(self, name: str) -> Table:
        """The table of that name.

        **Errors:** `InvalidRequest`, which names those that there are.
        """
        tables = {table.name: table for table in self.tables}
        if name not in tables:
            raise InvalidRequest(f"table: got {name!r}, expected one of {', '.join(tables)}.", param="table")
        return tables[name]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without the figures; a number that JSON lacks is the string "inf" or "-inf"."""
        return {
            "card": self.card,
            "question": self.question,
            "law": self.law,
            "model": plain(self.model),
            "settings": plain(self.settings),
            "findings": list(self.findings),
            "tables": {table.name: table.to_dict() for table in self.tables},
            "checks": [check.to_dict() for check in self.checks],
            "passed": self.passed,
            "notes": list(self.notes),
            "timings": {"seconds": self.seconds},
        }

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from thermoscope.instruments.shape.page import fragment

        return fragment(self)


def joined(*parts: Reading) -> Reading:
    """One reading of several, in their order."""
    return Reading(
        findings=[each for part in parts for each in part.findings],
        tables=[each for part in parts for each in part.tables],
        checks=[each for part in parts for each in part.checks],
        figures=[each for part in parts for each in part.figures],
        notes=[each for part in parts for each in part.notes],
        steering=next((part.steering for part in parts if part.steering is not None), None),
    )


def plain(value: Any) -> Any:
    """A value as JSON can hold it.

    **Errors:** `ValueError` for a number that is none: what is not defined is None.
    """
    if hasattr(value, "dtype"):  # numpy's, which nobody need import for this
        value = value.tolist()
    match value:
        case bool() | int() | str() | None:
            return value
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case float() if math.isnan(value):
            raise ValueError("a reading holds a NaN; expected None where a number is not defined")
        case float():
            return value if math.isfinite(value) else str(value)
    return [plain(each) for each in value]
