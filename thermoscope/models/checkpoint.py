"""What the decoder asks of a model's files, whatever their format."""

import hashlib
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import ModelNotFound, UnsupportedModel
from thermoscope.models.tokenizer import Tokenizer


class Blocks(NamedTuple):
    """A matrix in blocks of 32 columns: `weight = scale · code + minimum`.

    - `codes`: uint8 [rows, cols]; 0 to 15 (Q4_0, Q4_1, Q4_K), to 31 (Q5_0, Q5_1, Q5_K) or to 255 (Q8_0).
    - `scale`, `minimum`: float32 [rows, cols / 32].
    """

    codes: torch.Tensor
    scale: torch.Tensor
    minimum: torch.Tensor


class Checkpoint(Protocol):
    """A model's files: its shape, its tokenizer, and its weights by part.

    Parts are named in `parts.shape_of`; a layer's stand behind `layers.{i}.`, its expert's behind
    `layers.{i}.experts.{e}.`. Weights come in the orientation [out, in], rotary pairs as (i, i + dim / 2).
    """

    name: str
    identity: str
    config: ModelConfig
    tokenizer: Tokenizer

    def has(self, part: str) -> bool:
        """Whether the files hold this part."""

    def read(self, part: str) -> torch.Tensor:
        """The part as a dense tensor, in float32 where it was quantised."""

    def blocks(self, part: str) -> Blocks | None:
        """The part in blocks of 32, where it is stored so."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a folder of safetensors or a GGUF file, and check everything but the weights' values.

    **Errors:** `ModelNotFound` where nothing is; `BadModelFile`; `UnsupportedModel`.
    """
    if path.is_dir():
        from thermoscope.models.folder import FolderCheckpoint

        return FolderCheckpoint(path)
    if not path.exists():
        raise ModelNotFound(f"{path}: no such file or folder; check the path.")
    if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".ckpt"):
        raise UnsupportedModel(
            f"{path.name}: got a pickle, which may run code and is never loaded; expected a GGUF file."
        )
    from thermoscope.models.gguf_file import GGUFCheckpoint

    return GGUFCheckpoint(path)


def identity(path: Path) -> str:
    """A hash that changes when the files do; told from their sizes and times, so that it is quick."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(str(path.resolve()).encode())
    for file in files:
        status = file.stat()
        digest.update(f"\0{file.name}\0{status.st_size}\0{status.st_mtime_ns}".encode())
    return digest.hexdigest()
