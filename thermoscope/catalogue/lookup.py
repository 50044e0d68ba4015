"""From a model's name, file, folder or Hugging Face id to its shape, without its weights; no torch."""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from thermoscope.catalogue import hub
from thermoscope.catalogue.architecture import Architecture, Experts, Latent
from thermoscope.catalogue.files import name_of, read_json, reading
from thermoscope.catalogue.names import nearest, plain
from thermoscope.errors import ModelNotFound

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def architecture(name: str, *, local: bool = True) -> Architecture:
    """The shape of a model.

    `name` is a name or an alias of the catalogue in any spelling, a folder that holds a config.json, such a
    file itself, a .gguf file, or a Hugging Face id, of which only config.json is fetched. Without `local`,
    which is for names that a request brings, it is a name of the catalogue and nothing else.

    **Errors:** `ModelNotFound`; `BadModelFile` for a file that lacks a field, and `UnsupportedModel` for one
    of a model that is no decoder of attention and MLPs.
    """
    known = {plain(each): entry for entry in _entries() for each in (entry["name"], *entry["aliases"])}
    if found := known.get(plain(name)):
        return _architecture(found)
    hint = nearest(name, {key: entry["name"] for key, entry in known.items()})
    if not local:
        raise ModelNotFound(f"model: got {name!r}; {hint}expected a name of the catalogue.")
    path = Path(name).expanduser()
    if name and path.exists():
        return _from_file(path)
    if HUB_ID.fullmatch(name) and not name.startswith(".") and path.suffix not in (".gguf", ".json"):
        folder = hub.fetch(name, ["config.json"], otherwise="a config.json")
        return _from_file(folder / "config.json")
    raise ModelNotFound(
        f"model: got {name!r}, which is no file or folder here; {hint}expected a name of the catalogue, "
        "a folder or a config.json, a .gguf file, or a Hugging Face id such as owner/name."
    )


def names() -> list[str]:
    """The names of the catalogue, without their aliases, family by family."""
    return [entry["name"] for entry in _entries()]


def _entries() -> Iterator[dict[str, Any]]:
    folder = files("thermoscope.catalogue") / "architectures"
    for file in sorted(folder.iterdir(), key=str):
        family = json.loads(file.read_text(encoding="utf-8"))
        for model in family["models"]:
            yield family["shared"] | model


def _architecture(entry: dict[str, Any]) -> Architecture:
    fields = {key: value for key, value in entry.items() if key not in ("aliases", "published_by")}
    for key, kind in (("experts", Experts), ("latent", Latent)):
        if key in fields:
            fields[key] = kind(**_tuples(fields[key]))
    fields["source"] += f"; parameters: {entry['published_by']}"
    return Architecture(**_tuples(fields))


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _from_file(path: Path) -> Architecture:
    if path.is_dir() or path.suffix == ".json":
        from thermoscope.catalogue.any_config import read_any

        file = path / "config.json" if path.is_dir() else path
        with reading(str(file)):
            return read_any(read_json(file), name_of(file.parent if file.name == "config.json" else file))
    from thermoscope.catalogue.gguf_config import read_gguf
    from thermoscope.catalogue.gguf_header import read_header

    header = read_header(path)
    with reading(path.name):
        config = read_gguf(header.metadata, {key: info.shape for key, info in header.tensors.items()})
    return Architecture.of(config, name_of(path))
