"""How right the planners are on measured rows: `planner_accuracy.py memory ROWS.csv`, `latency ROWS.csv`.

Prints the error by method, phase and source, the share of rows inside the stated band, the ten worst rows
with the reason, and one line of JSON last.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import accuracy


def memory(path: Path) -> None:
    import memory_rows

    cases = [case for row in accuracy.read(path) if (case := memory_rows.case(row)) is not None]
    report(cases, "GiB")


def latency(path: Path) -> None:
    import latency_accuracy

    cases, left = latency_accuracy.cases(path)
    for reason, count in Counter(left.values()).items():
        print(f"{count} rows not predicted: {reason}")
    print()
    sources = latency_accuracy.left_out(path)
    print("\n".join(accuracy.table("sources left out whole, and refitted", sources)), end="\n\n")
    report(cases, "ms", left_out=sources, not_predicted=len(left))


def report(cases: list[accuracy.Case], unit: str, **more: Any) -> None:
    overall, groups = accuracy.summary(cases), accuracy.grouped(cases)
    halves = {
        name: accuracy.summary([case for case in cases if accuracy.fitted(case.row) == half])
        for name, half in (("fitted half", True), ("other half", False))
    }
    for title, each in {"all": {"all rows": overall}, "half": halves, **groups}.items():
        print("\n".join(accuracy.table(title, each)), end="\n\n")
    print("worst rows")
    print("\n".join(accuracy.worst(cases, unit)), end="\n\n")
    print(json.dumps({"overall": overall, "halves": halves, "groups": groups, **more}))


def main(arguments: list[str]) -> int:
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
