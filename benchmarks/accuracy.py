"""How far predictions are from measurements: by group, inside their band or not, and one line of JSON."""

import csv
import hashlib
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

Row = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """A row with what was predicted for it, in one unit. `band`: from and to; `reason`: where an error may
    come from.

    `measured` is None where the run ended for want of memory; then `right` says whether that was foretold.
    """

    row: Row
    groups: Mapping[str, str]
    predicted: float
    measured: float | None
    band: tuple[float, float]
    reason: str = ""
    right: bool | None = None

    @property
    def error(self) -> float:
        """Relative: 0.1 is 10% too much."""
        assert self.measured
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool:
        """Whether the measurement lies within the stated band."""
        assert self.measured
        return self.band[0] <= self.measured <= self.band[1]


def relabelled(case: Case, like: Case) -> Case:
    """A case under another's groups."""
    return replace(case, groups=like.groups)


def read(path: Path) -> list[Row]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def fitted(row: Row) -> bool:
    """Whether constants may be fitted to this row: half of them, by a hash of the row's id."""
    return hashlib.sha256(row["id"].encode()).digest()[0] % 2 == 0


def summary(cases: Sequence[Case]) -> dict[str, float | int | None]:
    """Mean, median and signed mean of the relative error, the share inside the band, foretold failures."""
    done = [case for case in cases if case.measured]
    failed = [case for case in cases if case.right is not None]
    errors = [case.error for case in done]
    return {
        "rows": len(done),
        "mape": statistics.fmean(map(abs, errors)) if errors else None,
        "median": statistics.median(map(abs, errors)) if errors else None,
        "bias": statistics.fmean(errors) if errors else None,
        "coverage": statistics.fmean(case.inside for case in done) if done else None,
        "oom_rows": len(failed),
        "oom_right": statistics.fmean(bool(case.right) for case in failed) if failed else None,
    }


def grouped(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """A summary for each value of each grouping."""
    found: dict[str, dict[str, Any]] = {}
    for kind in dict.fromkeys(kind for case in cases for kind in case.groups):
        for value in dict.fromkeys(case.groups[kind] for case in cases if kind in case.groups):
            members = [case for case in cases if case.groups.get(kind) == value]
            found.setdefault(kind, {})[value] = summary(members)
    return found


def left_out(cases: Sequence[Case], kind: str) -> dict[str, dict[str, Any]]:
    """A summary for each value of a grouping, of cases predicted without knowing that value."""
    return {
        value: summary([case for case in cases if case.groups[kind] == value])
        for value in dict.fromkeys(case.groups[kind] for case in cases)
    }


def table(title: str, groups: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """Lines for people."""
    yield f"{title:<44} {'rows':>5} {'MAPE':>7} {'median':>7} {'bias':>7} {'in band':>8} {'OOM right':>10}"
    for name, each in groups.items():
        numbers = [_percent(each[key]) for key in ("mape", "median", "bias", "coverage")]
        oom = f"{_percent(each['oom_right'])} of {each['oom_rows']}" if each["oom_rows"] else "–"
        error, median, bias, inside = numbers
        yield f"{name[:44]:<44} {each['rows']:>5} {error:>7} {median:>7} {bias:>7} {inside:>8} {oom:>10}"


def worst(cases: Sequence[Case], unit: str, count: int = 10) -> Iterable[str]:
    """The rows that are furthest off, with the reason."""
    done = sorted((case for case in cases if case.measured), key=lambda case: -abs(case.error))
    for case in done[:count]:
        about = ", ".join(case.groups.values())
        yield (
            f"{case.row['id']:>6} {case.row['model']:<20} predicted {case.predicted:9.3f} measured "
            f"{case.measured:9.3f} {unit} {100 * case.error:+6.1f}%  {about}: {case.reason}"
        )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"
