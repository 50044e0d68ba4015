"""A model in a folder as Hugging Face lays it out: config.json, safetensors, tokenizer.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from thermoscope.catalogue.files import name_of, read_json, reading
from thermoscope.catalogue.hf_config import read_hf
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.checkpoint import Blocks, identity
from thermoscope.models.folder_tokenizer import folder_tokenizer
from thermoscope.models.names import folder_names
from thermoscope.models.parts import places_of

INDEX_FILE, WEIGHTS_FILE = "model.safetensors.index.json", "model.safetensors"
DTYPES = ("F32", "BF16", "F16")
# buffers that older versions of transformers saved
HARMLESS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
PREFIX = "transformer."  # what some files of GPT-2 have before every name, and some have not
TRANSPOSED = tuple(f".{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"))


class FolderCheckpoint:
    """A folder of safetensors, its headers read and checked, its tensors mapped when asked for."""

    def __init__(self, path: Path) -> None:
        self.name, self.identity = name_of(path), identity(path)
        config = read_json(path / "config.json")
        refuse_quantised(path, config)
        with reading(f"{path.name}/config.json"):
            self.config = read_hf(config)
        # Gemma saves the distance of a norm's weights from 1
        self._norms_from_one = self.config.family == "gemma3"
        names = folder_names(self.config)
        self._tensors: dict[str, tuple[Any, str, Path]] = {}  # name -> open file, name in it, path
        for file in weight_files(path):
            handle = _opened(file)
            for full in handle.keys():  # noqa: SIM118  (a safetensors file is no mapping)
                name = full.removeprefix(PREFIX)
                copy = self.config.tied and names.parts(name, 0) == ("head",)  # of the embedding
                if not copy and not name.endswith(HARMLESS):
                    self._tensors[name] = (handle, full, file)
        shapes = {name: self._shape(name) for name in self._tensors}
        self._places = places_of(shapes, names, self.config, path.name)
        self.tokenizer = folder_tokenizer(path, config, rows=self.config.vocab)

    def has(self, part: str) -> bool:
        """Whether the folder holds this part."""
        return part in self._places

    def read(self, part: str) -> torch.Tensor:
        """The part as it is stored."""
        place = self._places[part]
        handle, full, file = self._tensors[place.tensor]
        rows, view = slice(place.start, place.stop), handle.get_slice(full)
        tensor: torch.Tensor = view[:, rows].T if full.endswith(TRANSPOSED) else view[rows]
        if not torch.isfinite(tensor).all():
            raise BadModelFile(
                f"{file.name}: {full}: got NaN or infinite weights, "
                "expected finite ones; fetch the file again."
            )
        return tensor.float() + 1 if self._norms_from_one and part.endswith("_norm") else tensor

    def blocks(self, part: str) -> Blocks | None:  # noqa: ARG002  (the protocol names it)
        """None: safetensors hold no blocks."""
        return None

    def _shape(self, name: str) -> tuple[int, ...]:
        handle, full, file = self._tensors[name]
        view = handle.get_slice(full)
        if (dtype := view.get_dtype()) not in DTYPES:
            raise UnsupportedModel(
                f"{file.name}: {full}: got type {dtype}, expected one of {', '.join(DTYPES)}; "
                "take the unquantised model or a GGUF of it."
            )
        shape = tuple(view.get_shape())
        return shape[::-1] if full.endswith(TRANSPOSED) else shape


def refuse_quantised(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse weights that only another engine's kernels can read."""
    if config.get("quantization_config"):
        raise UnsupportedModel(
            f"{folder.name}: got weights quantised for another engine (quantization_config), expected "
            "plain F32, F16 or BF16; take the unquantised model or a GGUF of it."
        )


def weight_files(folder: Path) -> list[Path]:
    """A folder's safetensors files, single or sharded; pickles are never loaded.

    **Errors:** `UnsupportedModel` where there are only pickles; `BadModelFile` where none or too many.
    """
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
