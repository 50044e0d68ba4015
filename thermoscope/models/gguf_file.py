"""A model in one GGUF file."""

import math
import re
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize

from thermoscope.catalogue.files import name_of, reading
from thermoscope.catalogue.gguf_config import read_gguf
from thermoscope.catalogue.gguf_header import read_header
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.checkpoint import Blocks, identity
from thermoscope.models.gguf_blocks import Bytes, unpack
from thermoscope.models.gguf_tokenizer import gguf_tokenizer
from thermoscope.models.names import gguf_names
from thermoscope.models.parts import places_of

DENSE = {Kind.F32: torch.float32, Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}
QUANTISED = (Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K)
# rotary frequencies that old converters wrote out, and those for longer contexts than the decoder allows
HARMLESS = re.compile(r"blk\.\d+\.attn_rot_embd.*|rope_factors_long\.weight")


class GGUFCheckpoint:
    """One GGUF file, its header read and checked, its tensors read when asked for."""

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self.path, self.name, self.identity = path, name_of(path), identity(path)
        with reading(path.name):
            shapes = {
                name: info.shape for name, info in header.tensors.items() if not HARMLESS.fullmatch(name)
            }
            self.config = read_gguf(header.metadata, shapes)
        self._tensors = {name: header.tensors[name] for name in shapes}
        self._places = places_of(shapes, gguf_names(self.config), self.config, path.name)
        for name, info in self._tensors.items():
            if info.kind not in DENSE and (info.kind not in QUANTISED or len(info.shape) == 1):
                expected = ", ".join(kind.name for kind in (*DENSE, *QUANTISED))
                raise UnsupportedModel(
                    f"{path.name}: {name}: got tensor type {info.kind.name}, expected one of {expected}; "
                    "take another quantisation of this model."
                )
        # llama.cpp turns rotary pairs (i, i + d/2) of arch llama into neighbours (2i, 2i + 1)
        self._permuted = header.metadata["general.architecture"] == "llama"
        self.tokenizer = gguf_tokenizer(header.metadata, rows=self.config.vocab, where=path.name)

    def has(self, part: str) -> bool:
        """Whether the file holds this part."""
        return part in self._places

    def read(self, part: str) -> torch.Tensor:
        """The part as a dense tensor: F16 and BF16 as they are, everything else as float32."""
        place, raw = self._places[part], self._rows(part)
        info = self._tensors[place.tensor]
        if info.kind in DENSE:
            values = torch.from_numpy(raw).view(DENSE[info.kind])
        else:
            with np.errstate(all="ignore"):  # a scale that is not finite is told from the result
                values = torch.from_numpy(dequantize(raw, info.kind))
        return self._finite(part, values if len(info.shape) > 1 else values.flatten())

    def blocks(self, part: str) -> Blocks | None:
        """The part in blocks of 32 with a scale and a minimum, where its type is of that form."""
        with np.errstate(all="ignore"):
            blocks = unpack(self._rows(part), self._tensors[self._places[part].tensor].kind)
        if blocks:
            self._finite(part, blocks.scale)
            self._finite(part, blocks.minimum)
        return blocks

    def _rows(self, part: str) -> Bytes:
        """The part's bytes, a line for each of its rows, in the order that its rotary pairs want."""
        place = self._places[part]
        info = self._tensors[place.tensor]
        width = info.size // math.prod(info.shape[:-1] or info.shape)
        count = place.stop - place.start
        found = np.fromfile(self.path, np.uint8, count * width, offset=info.start + place.start * width)
        if len(found) != count * width:
            raise BadModelFile(
                f"{self.path.name}: got {len(found):,} of {count * width:,} bytes "
                "of a tensor; the file shrank while in use."
            )
        rows = found.reshape(count, width)
        if self._permuted and part.rpartition(".")[2] in ("q", "k", "q_bias", "k_bias"):
            rows = rows.reshape(-1, self.config.head_dim // 2, 2, width).swapaxes(1, 2).reshape(count, width)
        return rows

    def _finite(self, part: str, values: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(values).all():
            raise BadModelFile(
                f"{self.path.name}: {part}: got NaN or infinite weights, "
                "expected finite ones; fetch the file again."
            )
        return values
