"""A model's name and its JSON, from the files themselves; no torch."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thermoscope.errors import BadModelFile, ThermoscopeError


def name_of(path: Path) -> str:
    """A model's name for people: the file's without its quantisation, the folder's, or the hub's."""
    path = path.resolve()
    if path.parent.name == "snapshots":  # the hub's cache: models--owner--name/snapshots/<commit>
        return path.parent.parent.name.split("--")[-1]
    return path.name if path.is_dir() else re.sub(r"[.-](I?Q\d\w*|B?F16|F32)$", "", path.stem, flags=re.I)


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn whatever a parser raises on broken input into one `BadModelFile`."""
    try:
        yield
    except ThermoscopeError:
        raise
    except Exception as error:  # tokenizers raises bare Exception, and parsers all kinds
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise BadModelFile(
            f"{where}: got content that does not parse ({detail}); fetch the model again."
        ) from error


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """Read a JSON object from a file; an empty one where the file is optional and missing.

    **Errors:** `BadModelFile`.
    """
    if not path.exists():
        if optional:
            return {}
        raise BadModelFile(f"{path.parent}: got no {path.name}, expected one in every model's folder.")
    with reading(f"{path.parent.name}/{path.name}"):
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise BadModelFile(f"{path}: got a {type(found).__name__}, expected a JSON object; fetch it again.")
    return found
