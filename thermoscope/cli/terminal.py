"""What all commands share on their way out: one line for an error, JSON, tables that fit."""

import json
import sys
from typing import Any

from rich.console import Console

PIPED_WIDTH = 160  # columns of a table that no terminal shows; Rich would cut it at 80


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"thermoscope: {' '.join(message.split())}", file=sys.stderr, flush=True)


def note(message: str) -> None:
    """A remark beside the output, on stderr, so that the output stays what was asked for."""
    print(message, file=sys.stderr, flush=True)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value; `indent=None` for one line."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent), flush=True)


def console() -> Console:
    """Where tables go: the terminal, or a file at a width that cuts nothing."""
    return Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)


def size(count: int) -> str:
    """Bytes for people: 98362432 -> '93.8 MiB'."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
