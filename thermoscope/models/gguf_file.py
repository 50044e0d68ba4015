"""A model in one GGUF file."""

import re
from pathlib import Path

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.checkpoint import (
    GGUF_LAYER,
    GGUF_WHOLE,
    Blocks,
    check_parts,
    identity,
    name_of,
    named_parts,
    reading,
    refuse_unknown,
)
from thermoscope.models.gguf_blocks import Bytes, unpack
from thermoscope.models.gguf_header import TensorInfo, read_header
from thermoscope.models.gguf_tokenizer import gguf_tokenizer

DENSE = {Kind.F32: torch.float32, Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}
QUANTISED = (Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K)
HARMLESS = re.compile(r"blk\.\d+\.attn_rot_embd")  # rotary frequencies that old converters wrote out


class GGUFCheckpoint:
    """One GGUF file, its header read and checked, its tensors read when asked for."""

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self.path, self.name, self.identity = path, name_of(path), identity(path)
        with reading(path.name):
            shapes = {name: info.shape for name, info in header.tensors.items()}
            self.config = ModelConfig.from_gguf(header.metadata, shapes)
        named = named_parts(self.config, GGUF_WHOLE, GGUF_LAYER, "blk.{}.")
        self._tensors = {named[name]: info for name, info in header.tensors.items() if name in named}
        unknown = (name for name in shapes if name not in named and not HARMLESS.match(name))
        refuse_unknown(unknown, self.config, path.name)
        check_parts({part: info.shape for part, info in self._tensors.items()}, self.config, path.name)
        for part, info in self._tensors.items():
            if info.kind not in DENSE and info.kind not in QUANTISED:
                expected = ", ".join(kind.name for kind in (*DENSE, *QUANTISED))
                raise UnsupportedModel(
                    f"{path.name}: {part}: got tensor type {info.kind.name}, expected one of {expected}; "
                    "take another quantisation of this model."
                )
        # llama.cpp turns rotary pairs (i, i + d/2) of arch llama into neighbours (2i, 2i + 1)
        self._permuted = header.metadata["general.architecture"] == "llama"
        self.tokenizer = gguf_tokenizer(header.metadata, rows=self.config.vocab, where=path.name)

    def has(self, part: str) -> bool:
        """Whether the file holds this part."""
        return part in self._tensors

    def read(self, part: str) -> torch.Tensor:
        """The part as a dense tensor: F16 and BF16 as they are, everything else as float32."""
        info = self._tensors[part]
        raw = self._bytes(info)
        if info.kind in DENSE:
            dense = torch.from_numpy(raw).view(DENSE[info.kind]).reshape(info.shape)
            rows = self._rows(part, info.shape[0])
            return self._finite(part, dense if rows is None else dense[torch.from_numpy(rows)])
        with np.errstate(all="ignore"):  # a scale that is not finite is told from the result
            values = dequantize(self._in_rows(part, raw), info.kind)
        return self._finite(part, torch.from_numpy(values.reshape(info.shape)))

    def blocks(self, part: str) -> Blocks | None:
        """The part in blocks of 32 with a scale and a minimum, where its type is of that form."""
        info = self._tensors[part]
        with np.errstate(all="ignore"):
            blocks = unpack(self._in_rows(part, self._bytes(info)), info.kind)
        if blocks:
            self._finite(part, blocks.scale)
            self._finite(part, blocks.minimum)
        return blocks

    def _bytes(self, info: TensorInfo) -> Bytes:
        found = np.fromfile(self.path, np.uint8, info.size, offset=info.start)
        if len(found) != info.size:
            raise BadModelFile(
                f"{self.path.name}: got {len(found):,} of {info.size:,} bytes "
                "of a tensor; the file shrank while in use."
            )
        return found

    def _in_rows(self, part: str, raw: Bytes) -> Bytes:
        rows = raw.reshape(self._tensors[part].shape[0], -1)
        order = self._rows(part, len(rows))
        return rows if order is None else rows[order]

    def _rows(self, part: str, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
        """The order that undoes llama.cpp's permutation of q and k; None where there is none."""
        leaf = part.rpartition(".")[2]
        if not self._permuted or leaf not in ("q", "k", "q_bias", "k_bias"):
            return None
        return np.arange(count).reshape(-1, self.config.head_dim // 2, 2).swapaxes(1, 2).reshape(-1)

    def _finite(self, part: str, values: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(values).all():
            raise BadModelFile(
                f"{self.path.name}: {part}: got NaN or infinite weights, "
                "expected finite ones; fetch the file again."
            )
        return values
