"""What all commands share on their way out: one line for an error, JSON, tables that fit."""

import json
import re
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

PIPED_WIDTH = 160  # columns of a table that no terminal shows; Rich would cut it at 80
# A terminal obeys these: they can rewrite what stands above, or the clipboard. Newline and tab are harmless.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def visible(text: str) -> str:
    """Text from a model or a file, with its control characters shown and not obeyed: ESC as \\x1b."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"thermoscope: {visible(' '.join(message.split()))}", file=sys.stderr, flush=True)


def note(message: str) -> None:
    """A remark beside the output, on stderr, so that the output stays what was asked for."""
    print(visible(message), file=sys.stderr, flush=True)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print one JSON value; `indent=None` for one line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    # JSON escapes the controls below the space itself, and leaves these.
    print(re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text), flush=True)


def cells(*texts: str) -> list[Text]:
    """Cells of a table that show what they hold, be it Rich's markup or a control character."""
    return [Text(visible(text)) for text in texts]


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
