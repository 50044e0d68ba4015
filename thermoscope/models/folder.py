"""A model in a folder as Hugging Face lays it out: config.json, safetensors, tokenizer.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.checkpoint import (
    HF_LAYER,
    HF_WHOLE,
    Blocks,
    check_parts,
    identity,
    name_of,
    named_parts,
    read_json,
    reading,
    refuse_unknown,
)
from thermoscope.models.folder_tokenizer import folder_tokenizer

INDEX_FILE, WEIGHTS_FILE = "model.safetensors.index.json", "model.safetensors"
DTYPES = ("F32", "BF16", "F16")
HARMLESS = ".rotary_emb.inv_freq"  # a buffer that older versions of transformers saved


class FolderCheckpoint:
    """A folder of safetensors, its headers read and checked, its tensors mapped when asked for."""

    def __init__(self, path: Path) -> None:
        self.name, self.identity = name_of(path), identity(path)
        config = read_json(path / "config.json")
        if config.get("quantization_config"):
            raise UnsupportedModel(
                f"{path.name}: got weights quantised for another engine (quantization_config), expected "
                "plain F32, F16 or BF16; take the unquantised model or a GGUF of it."
            )
        with reading(f"{path.name}/config.json"):
            self.config = ModelConfig.from_hf(config)
        named = named_parts(self.config, HF_WHOLE, HF_LAYER, "model.layers.{}.")
        self._places: dict[str, tuple[Any, str, Path]] = {}  # part -> open file, tensor's name, path
        unknown = []
        for file in _weight_files(path):
            handle = _opened(file)
            for name in handle.keys():  # noqa: SIM118  (a safetensors file is no mapping)
                if name in named:
                    self._places[named[name]] = (handle, name, file)
                elif not name.endswith(HARMLESS):
                    unknown.append(name)
        if self.config.tied:
            self._places.pop("head", None)  # a copy of the embedding
        shapes = {part: self._shape(part) for part in self._places}
        refuse_unknown(unknown, self.config, path.name)
        check_parts(shapes, self.config, path.name)
        self.tokenizer = folder_tokenizer(path, config, rows=self.config.vocab)

    def has(self, part: str) -> bool:
        """Whether the folder holds this part."""
        return part in self._places

    def read(self, part: str) -> torch.Tensor:
        """The part as it is stored."""
        handle, name, file = self._places[part]
        tensor: torch.Tensor = handle.get_tensor(name)
        if not torch.isfinite(tensor).all():
            raise BadModelFile(
                f"{file.name}: {name}: got NaN or infinite weights, "
                "expected finite ones; fetch the file again."
            )
        return tensor

    def blocks(self, part: str) -> Blocks | None:  # noqa: ARG002  (the protocol names it)
        """None: safetensors hold no blocks."""
        return None

    def _shape(self, part: str) -> tuple[int, ...]:
        handle, name, file = self._places[part]
        view = handle.get_slice(name)
        if (dtype := view.get_dtype()) not in DTYPES:
            raise UnsupportedModel(
                f"{file.name}: {name}: got type {dtype}, expected one of {', '.join(DTYPES)}; "
                "take the unquantised model or a GGUF of it."
            )
        return tuple(view.get_shape())


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX_FILE).exists():
        return _shards(folder, read_json(folder / INDEX_FILE))
    files = sorted(folder.glob("*.safetensors"))
    if (folder / WEIGHTS_FILE) in files or len(files) == 1:
        return [folder / WEIGHTS_FILE] if len(files) > 1 else files
    if not files and any(file.suffix in (".bin", ".pt", ".pth") for file in folder.iterdir()):
        raise UnsupportedModel(
            f"{folder.name}: got only pickled weights, which may run code and are never loaded; "
            "expected model.safetensors, so convert them or take another copy."
        )
    raise BadModelFile(
        f"{folder}: got {len(files)} safetensors files without an index, "
        f"expected {WEIGHTS_FILE} or {INDEX_FILE}; fetch the model again."
    )


def _shards(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names:
        raise BadModelFile(f"{folder.name}/{INDEX_FILE}: got no weight_map, expected one; fetch it again.")
    files = [folder / Path(str(name)).name for name in sorted(set(map(str, names.values())))]
    for file in files:
        if not file.exists():
            raise BadModelFile(
                f"{folder.name}: got no {file.name}, expected it as {INDEX_FILE} names it; "
                "fetch that shard again."
            )
    return files


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise BadModelFile(
            f"{file.name}: got a broken safetensors file ({error}); "
            "it is cut short or corrupt, fetch it again."
        ) from error
