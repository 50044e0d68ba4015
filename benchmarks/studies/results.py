"""What a study has found so far, a JSON line for each passage, so that it can be stopped and gone on with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thermoscope.errors import InvalidRequest

Key = tuple[Any, int]  # the setting's name or temperature, and the passage's number


class Results:
    """The rows of one file, whose first line says what the study was run with.

    **Errors:** `InvalidRequest` if that line says something else, for rows of two kinds do not mix, or if the
    file is none of results; it is left as it was.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.rows: dict[Key, dict[str, Any]] = {}
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]  # a run that was killed may have left half a line
        try:
            first, *rows = map(json.loads, whole.splitlines() if text else [json.dumps(dict(about))])
            held = dict(first)
            self.rows = {(row["setting"], row["passage"]): row for row in rows}
        except (ValueError, TypeError, KeyError):
            raise InvalidRequest(
                f"results: got {path.name}, which holds something else; name another file.", param="results"
            ) from None
        self._check(path, held, about)
        if whole != text:
            path.write_bytes(whole)
        self._file = path.open("a", encoding="utf-8")
        if not whole:
            self._write(dict(about))

    def add(self, setting: Any, passage: int, **found: Any) -> None:
        """Keep one passage's row, on the disk before anything else is done."""
        row = {"setting": setting, "passage": passage, **found}
        self._write(row)
        self.rows[setting, passage] = row

    def of(self, setting: Any, count: int) -> list[dict[str, Any]]:
        """A setting's first `count` rows, by passage, in whatever order they came."""
        return [self.rows[setting, passage] for passage in range(count)]

    def close(self) -> None:
        self._file.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    @staticmethod
    def _check(path: Path, held: dict[str, Any], about: Mapping[str, Any]) -> None:
        for name in held | dict(about):
            if held.get(name) != about.get(name):
                raise InvalidRequest(
                    f"results: got {path.name} of {name} {held.get(name)}, expected {about.get(name)}; "
                    "name another file.",
                    param="results",
                )
