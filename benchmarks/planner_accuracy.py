"""How right the planners are on measured rows: `planner_accuracy.py memory ROWS.csv`.

Prints the error by method, phase and source, the share of rows inside the stated band, the ten worst rows
with the reason, and one line of JSON last.
"""

import json
import sys
from pathlib import Path

import accuracy


def memory(path: Path) -> None:
    import memory_rows

    cases = [case for row in accuracy.read(path) if (case := memory_rows.case(row)) is not None]
    report(cases, "GiB")


def report(cases: list[accuracy.Case], unit: str) -> None:
    overall, groups = accuracy.summary(cases), accuracy.grouped(cases)
    halves = {
        name: accuracy.summary([case for case in cases if accuracy.fitted(case.row) == half])
        for name, half in (("fitted half", True), ("other half", False))
    }
    for title, each in {"all": {"all rows": overall}, "half": halves, **groups}.items():
        print("\n".join(accuracy.table(title, each)), end="\n\n")
    print("worst rows")
    print("\n".join(accuracy.worst(cases, unit)), end="\n\n")
    print(json.dumps({"overall": overall, "halves": halves, "groups": groups}))


def main(arguments: list[str]) -> int:
    match arguments:
        case ["memory", path]:
            memory(Path(path))
            return 0
    print("usage: planner_accuracy.py memory ROWS.csv", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
