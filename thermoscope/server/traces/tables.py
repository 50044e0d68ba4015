"""The tables of traces in SQLite: an answer's row, and one for each of its steps."""

import json
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from thermoscope.engine.trace import FinishReason, Step, Trace
from thermoscope.errors import InvalidRequest
from thermoscope.server.traces.coding import Row, pack, unpack

if TYPE_CHECKING:
    from thermoscope.upstream.trace import Step as SeenStep
    from thermoscope.upstream.trace import Trace as SeenTrace

Answer = TypeVar("Answer", "Trace", "SeenTrace")  # of the engine here, or of another server

FORM = 1  # of the tables; a file of another is refused
NAME = 0x7468726D  # "thrm", which marks the file as one of ours

_TABLES = """
CREATE TABLE IF NOT EXISTS answer (
    id INTEGER PRIMARY KEY, trace TEXT NOT NULL, choice INTEGER NOT NULL, created REAL NOT NULL,
    head TEXT NOT NULL, finish_reason TEXT, UNIQUE (trace, choice)
);
CREATE TABLE IF NOT EXISTS step (
    answer INTEGER NOT NULL, position INTEGER NOT NULL, shown TEXT NOT NULL,
    plain TEXT NOT NULL, best BLOB, texts TEXT, PRIMARY KEY (answer, position)
) WITHOUT ROWID;
"""

_SUMMARY = """
SELECT trace, min(created) AS created, count(*) AS answers, count(finish_reason) AS ended, (
    SELECT count(*) FROM step JOIN answer AS mine ON step.answer = mine.id WHERE mine.trace = answer.trace
) AS steps FROM answer
"""


class Summary(NamedTuple):
    """A trace in a line: how many answers, how many of them ended, and the steps of all."""

    trace: str
    created: float
    answers: int
    ended: int
    steps: int


class Tables:
    """A database; `with` makes what is written in it one transaction. Not thread-safe.

    **Errors:** `InvalidRequest` for a file that cannot be opened or is not ours.
    """

    def __init__(self, path: Path | None) -> None:
        self._base = _connect(path)

    def __enter__(self) -> None:
        self._base.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._base.__exit__(*error)

    def begin(self, trace: str, head: Answer) -> int:
        """Write an answer down that has no steps yet, and give its row."""
        row = self._base.execute(
            "INSERT INTO answer (trace, choice, created, head) VALUES (?, ?, ?, ?)",
            (trace, head.choice, time.time(), _head(head)),
        ).lastrowid
        assert row is not None
        return row

    def add(self, row: int, position: int, shown: str, step: "Step | SeenStep") -> int:
        """Write a step of an answer down, and give its size, about. `shown`: what could be shown with it."""
        packed = pack(step)
        self._base.execute("INSERT INTO step VALUES (?, ?, ?, ?, ?, ?)", (row, position, shown, *packed))
        return sum(len(part) for part in packed if part is not None)

    def end(self, row: int, head: Answer, reason: FinishReason | str | None) -> None:
        """An answer is complete."""
        self._base.execute(
            "UPDATE answer SET head = ?, finish_reason = ? WHERE id = ?", (_head(head), reason, row)
        )

    def forget(self, trace: str) -> None:
        """Delete a trace."""
        mine = "SELECT id FROM answer WHERE trace = ?"
        self._base.execute(f"DELETE FROM step WHERE answer IN ({mine})", (trace,))
        self._base.execute("DELETE FROM answer WHERE trace = ?", (trace,))

    def answers(self, trace: str, choice: int | None) -> list[dict[str, Any]]:
        """A trace's answers, or one of them, as `Trace.to_dict` gives them; a cut one as far as it came."""
        found = self._base.execute(
            "SELECT id, head FROM answer WHERE trace = ?1 AND (?2 IS NULL OR choice = ?2) ORDER BY choice",
            (trace, choice),
        )
        return [self._answer(row, json.loads(head)) for row, head in found.fetchall()]

    def summary(self, trace: str) -> Summary | None:
        """A trace in a line, if it is there."""
        found = self._base.execute(f"{_SUMMARY} WHERE trace = ? GROUP BY trace", (trace,)).fetchone()
        return found and Summary(*found)

    def newest(self, limit: int, after: str | None) -> list[Summary]:
        """The newest traces, newest first, or those older than another."""
        last = "(SELECT min(id) FROM answer WHERE trace = ?1)"
        found = self._base.execute(
            f"{_SUMMARY} GROUP BY trace HAVING ?1 IS NULL OR min(id) < {last} ORDER BY min(id) DESC LIMIT ?2",
            (after, limit),
        )
        return [Summary(*row) for row in found]

    def close(self) -> None:
        """Leave the file."""
        self._base.close()

    def _answer(self, row: int, head: dict[str, Any]) -> dict[str, Any]:
        found = self._base.execute(
            "SELECT shown, plain, best, texts FROM step WHERE answer = ? ORDER BY position", (row,)
        ).fetchall()
        steps = [unpack(Row(plain, best, texts)) for _, plain, best, texts in found]
        if head["finish_reason"] is None and steps:
            head |= {"text": "".join(shown for shown, *_ in found), "prefill_ms": steps[0]["ms"]}
        return head | {"steps": steps}


def _connect(path: Path | None) -> sqlite3.Connection:
    try:
        if path is not None and not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # it holds prompts: nobody else's to read
        base = sqlite3.connect(path or ":memory:", check_same_thread=False)
        (form,) = base.execute("PRAGMA user_version").fetchone()
        (name,) = base.execute("PRAGMA application_id").fetchone()
        (tables,) = base.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (name, form) != (NAME, FORM):
            base.close()
            raise InvalidRequest(
                f"keep-traces: got {path}, a database of something else, expected a new file, "
                "or one that this version wrote.",
                param="keep-traces",
            )
        # A process that dies loses nothing that was written; a machine that does, what its last moment wrote.
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        base.execute(f"PRAGMA application_id = {NAME}")
        base.execute(f"PRAGMA user_version = {FORM}")
        base.executescript(_TABLES)
    except (OSError, sqlite3.Error) as error:
        raise InvalidRequest(
            f"keep-traces: got {path}, expected a file that can be written ({error}).", param="keep-traces"
        ) from error
    return base


def _head(trace: Answer) -> str:
    plain = replace(trace, steps=[]).to_dict()
    del plain["steps"]
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)
