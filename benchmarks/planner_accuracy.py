"""How right the planners are on measured rows: `planner_accuracy.py memory ROWS.csv`, `latency ROWS.csv`.

Prints the error by method, phase and source, the share of rows inside the stated band, the ten worst rows
with the reason, and one line of JSON last.
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import accuracy

from thermoscope.errors import InvalidRequest


def memory(path: Path) -> None:
    """Peaks of training and of running, in GiB."""
    import memory_rows

    rows = accuracy.read(path)
    cases: list[accuracy.Case] = []
    blind: list[accuracy.Case] = []
    for row in rows:
        try:
            if (case := memory_rows.case(row)) is not None:
                cases.append(case)
                alone = memory_rows.case(row, blind=True)
                assert alone is not None
                blind.append(accuracy.relabelled(alone, case))
        except (InvalidRequest, ValueError) as error:
            print(f"{row['id']}: not predicted: {error}")
    print(f"{len(cases)} of {len(rows)} rows are of a whole model; the others measure a kernel on its own.\n")
    report(cases, "GiB", left_out=accuracy.left_out(blind, "source"))


def latency(path: Path) -> None:
    """Times of whole answers, prompts, steps and single components, in milliseconds."""
    import latency_accuracy

    cases, left = latency_accuracy.cases(path)
    for reason, count in Counter(left.values()).items():
        print(f"{count} rows not predicted: {reason}")
    print()
    report(cases, "ms", left_out=latency_accuracy.left_out(path))


def report(cases: Sequence[accuracy.Case], unit: str, *, left_out: Mapping[str, Mapping[str, Any]]) -> None:
    """The tables, the worst rows and the line of JSON."""
    overall, groups = accuracy.summary(cases), accuracy.grouped(cases)
    halves = {
        name: accuracy.summary([case for case in cases if accuracy.fitted(case.row) == half])
        for name, half in (("fitted half", True), ("other half", False))
    }
    tables = {"all": {"all rows": overall}, "half": halves, **groups, "leave one source out": left_out}
    for title, each in tables.items():
        print("\n".join(accuracy.table(title, each)), end="\n\n")
    print("worst rows")
    print("\n".join(accuracy.worst(cases, unit)), end="\n\n")
    print(json.dumps({**overall, "halves": halves, "groups": groups, "left_out": left_out}))


def main(arguments: list[str]) -> int:
    """The command line."""
    match arguments:
        case ["memory", path]:
            memory(Path(path))
            return 0
        case ["latency", path]:
            latency(Path(path))
            return 0
    print("usage: planner_accuracy.py memory|latency ROWS.csv", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
