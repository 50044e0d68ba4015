"""Packed models on disk: what a start needs, made once and read ever after.

A folder holds `model.json` (name, precision, shape), the tokenizer, and `weights.safetensors`, named for
`models.pack.build`. Its name is a hash of what it was made from, so a changed file packs anew.
"""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from thermoscope.catalogue.config import ModelConfig, RopeScaling
from thermoscope.catalogue.precision import NATIVE, Precision
from thermoscope.errors import BadModelFile
from thermoscope.models.checkpoint import identity
from thermoscope.models.tokenizer import Tokenizer

FORMAT = 6  # raise it when a folder's contents change meaning
LINE = 64  # bytes of a processor's cache line


class Packed(NamedTuple):
    """Everything that a decoder is built from."""

    name: str
    precision: Precision
    config: ModelConfig
    tokenizer: Tokenizer
    tensors: dict[str, Tensor]
    rounding: float | None = None  # mean KL to the file's own weights, nats a token, where they were rounded


def folder_for(cache: Path, source: Path, precision: Precision | None, *, native: bool) -> Path:
    """Where a model is kept at a precision, None being its default one, for the own kernel or PyTorch's.

    Another PyTorch or instruction set lays 4-bit weights out otherwise, so both are in the name.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    native = native and precision in (None, *NATIVE)
    facts = (FORMAT, identity(source), precision, native, torch.__version__, capability)
    return cache / "packed" / hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def save(folder: Path, packed: Packed) -> None:
    """Write a folder whole or not at all; of two processes that try at once, the last one's stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            _write(packed.tensors, part / "weights.safetensors")
            packed.tokenizer.save(part)
            about = {
                "name": packed.name,
                "precision": packed.precision,
                "config": asdict(packed.config),
                "rounding": packed.rounding,
            }
            (part / "model.json").write_text(json.dumps(about))
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def load(folder: Path) -> Packed:
    """Read what `save` wrote.

    **Errors:** `BadModelFile` if the folder is not there or damaged; the caller packs anew.
    """
    try:
        about = json.loads((folder / "model.json").read_text())
        fields = about["config"]
        if fields["rope_scaling"] is not None:
            fields["rope_scaling"] = RopeScaling(**_with_tuples(fields["rope_scaling"]))
        config = ModelConfig(**_with_tuples(fields))
        with safe_open(folder / "weights.safetensors", framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Packed(
            about["name"], about["precision"], config, Tokenizer.load(folder), tensors, about["rounding"]
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BadModelFile(f"{folder}: got {error}, expected a packed model; delete the folder.") from error


def _write(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors of whole cache lines, as weights are, so that each begins at one where it is mapped.

    The format puts them right behind its header and each other; a word of our own brings the header to whole
    lines. How long it is without is only known once it is written; a model is packed once.
    """
    save_file(tensors, path, metadata={"line": ""})
    with path.open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    if rest := header % LINE:
        save_file(tensors, path, metadata={"line": " " * (LINE - rest)})


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
