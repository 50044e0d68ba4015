"""A vector that steers answers, in a file: ours (safetensors), or a control vector as llama.cpp has (GGUF).

Layers count from 0 and name the stream that a layer finds, as in `models.intervention`. llama.cpp's
`direction.N` is added to what layer N leaves, which is what layer N + 1 finds; it has none for layer 0.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from thermoscope.catalogue.gguf_header import read_header
from thermoscope.errors import BadModelFile, InvalidRequest
from thermoscope.models.intervention import Add, Lean

Mode = Literal["card", "constant"]
SUFFIXES = (".safetensors", ".gguf")
FORMAT = "thermoscope-steering"
ARCHITECTURE = "controlvector"  # what llama.cpp and repeng call it


@dataclass(frozen=True, eq=False)
class Steering:
    """What is added to the residual stream, and to whose.

    - `vectors`: layer -> [hidden]. `task`: None adds them to every token ("constant"); else they are ∇_task
      and this is h_task of the same layers, and γ·cos(h, h_task)·∇_task is added from the prompt's last token
      on ("card"). `gamma`: γ, units² a nat.
    - `model`, `family`: the model that they were made on. `layers`: how many it has.
    """

    model: str
    family: str
    layers: int
    vectors: Mapping[int, Float[Tensor, "hidden"]]
    task: Mapping[int, Float[Tensor, "hidden"]] | None = None
    gamma: float = 1.0

    @property
    def mode(self) -> Mode:
        """Whether it is added as on the card, or to every token."""
        return "constant" if self.task is None else "card"

    def interventions(self, prompt: int) -> tuple[Add | Lean, ...]:
        """What to do to an answer after a prompt of this many tokens."""
        if self.task is None:
            return tuple(Add(layer, vector) for layer, vector in self.vectors.items())
        return tuple(
            Lean(layer, vector, self.task[layer], self.gamma, max(0, prompt - 1))
            for layer, vector in self.vectors.items()
        )

    def save(self, path: Path) -> None:
        """Write it to a .safetensors or a .gguf file.

        **Errors:** `InvalidRequest` for another suffix, and for what llama.cpp's form does not hold.
        """
        check(path, self.mode)
        if path.suffix == ".gguf":
            self._save_gguf(path)
            return
        tensors = {f"vector.{layer}": vector for layer, vector in self.vectors.items()}
        tensors |= {f"task.{layer}": vector for layer, vector in (self.task or {}).items()}
        about = {"model": self.model, "family": self.family, "layers": self.layers, "gamma": self.gamma}
        plain = {name: tensor.float().contiguous() for name, tensor in tensors.items()}
        save_file(plain, path, metadata={"format": FORMAT, "about": json.dumps(about)})

    def _save_gguf(self, path: Path) -> None:
        from gguf import GGUFWriter

        for layer in self.vectors:
            if not 2 <= layer <= self.layers:
                raise InvalidRequest(
                    f"{path.name}: got a vector for layer {layer}, expected 2 to {self.layers}: llama.cpp "
                    "adds control vectors behind layers 1 and up; choose another layer, or .safetensors."
                )
        writer = GGUFWriter(path, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", self.family)
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", self.layers)
        writer.add_name(self.model)
        for layer, vector in self.vectors.items():
            writer.add_tensor(f"direction.{layer - 1}", vector.float().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def check(path: Path, mode: Mode) -> None:
    """Refuse a file that a vector of this mode cannot be written to.

    **Errors:** `InvalidRequest`.
    """
    if path.suffix not in SUFFIXES:
        raise InvalidRequest(f"{path.name}: expected a name that ends in {' or '.join(SUFFIXES)}.")
    if path.suffix == ".gguf" and mode == "card":
        raise InvalidRequest(
            f"{path.name}: got a vector in the card's mode, expected a constant one, for llama.cpp knows no "
            "other; take the mode constant, or .safetensors."
        )


def load(path: Path) -> Steering:
    """A vector from a file of either kind.

    **Errors:** `BadModelFile` where it holds something else.
    """
    try:
        found = _of_gguf(path) if path.suffix == ".gguf" else _of_safetensors(path)
        finite = all(bool(torch.isfinite(vector).all()) for vector in found.vectors.values())
    except (KeyError, ValueError, TypeError, SafetensorError) as error:
        raise BadModelFile(
            f"{path.name}: got no steering vector ({error}), expected a file that `thermoscope prompting "
            "--save` or repeng wrote."
        ) from None
    except OSError as error:
        raise BadModelFile(f"{path}: {error.strerror or error}; expected a file that can be read.") from None
    if not found.vectors or not finite or not math.isfinite(found.gamma):
        raise BadModelFile(f"{path.name}: got no vectors, or such as are not finite; write the file again.")
    return found


def _of_safetensors(path: Path) -> Steering:
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError("it has another format")
        about: dict[str, Any] = json.loads(metadata["about"])
        parts: dict[str, dict[int, Tensor]] = {"vector": {}, "task": {}}
        for name in opened.keys():  # noqa: SIM118 (safetensors' own method)
            part, _, layer = name.partition(".")
            parts[part][int(layer)] = opened.get_tensor(name)
    return Steering(
        str(about["model"]), str(about["family"]), int(about["layers"]),
        dict(sorted(parts["vector"].items())), parts["task"] or None, float(about["gamma"]),
    )  # fmt: skip


def _of_gguf(path: Path) -> Steering:
    header = read_header(path)
    metadata = header.metadata
    if metadata["general.architecture"] != ARCHITECTURE:
        raise ValueError(f"it is of {metadata['general.architecture']}")
    vectors = {}
    for name, info in header.tensors.items():
        part, _, layer = name.partition(".")
        if part != "direction" or info.kind.name != "F32" or len(info.shape) != 1:
            raise ValueError(f"{name} is no direction in F32")
        values = np.fromfile(path, np.float32, info.shape[0], offset=info.start)
        vectors[int(layer) + 1] = torch.from_numpy(values)
    family = str(metadata.get(f"{ARCHITECTURE}.model_hint", ""))
    layers = int(metadata.get(f"{ARCHITECTURE}.layer_count", max(vectors, default=0)))
    return Steering(
        str(metadata.get("general.name", path.stem)), family, layers, dict(sorted(vectors.items()))
    )
