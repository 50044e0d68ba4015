"""GGUF's blocks of 32 weights, as codes with a scale and a minimum.

Every type here stores `weight = scale · code + minimum` for 32 neighbours in a row; the types differ in
how the numbers are packed. Unpacked, the same formula gives exactly what `gguf` dequantises: a half-precision
scale times a small code fits float32 without rounding.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from thermoscope.models.checkpoint import Blocks

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Unpacked = tuple[Bytes, Floats, Floats]


def unpack(rows: Bytes, kind: GGMLQuantizationType) -> Blocks | None:
    """Turn the bytes of each row into codes, scales and minima; None for a type of another form."""
    if kind not in _UNPACK:
        return None
    width = GGML_QUANT_SIZES[kind][1]
    parts = _UNPACK[kind](rows.reshape(-1, width))
    return Blocks(*(torch.from_numpy(np.ascontiguousarray(part.reshape(len(rows), -1))) for part in parts))


def _half(block: Bytes, at: int) -> Floats:
    return np.ascontiguousarray(block[:, at : at + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes, span: int) -> Bytes:
    """Split bytes into codes: in each group of `span` bytes the low halves come before the high ones."""
    groups = packed.reshape(len(packed), -1, 1, span)
    both: Bytes = groups >> np.array([0, 4], np.uint8).reshape(1, 1, 2, 1) & np.uint8(15)
    return both.reshape(len(packed), -1)


def _fifth_bits(block: Bytes, at: int) -> Bytes:
    bits = np.unpackbits(np.ascontiguousarray(block[:, at : at + 4]), axis=1, bitorder="little")
    return bits << np.uint8(4)


def _q4_0(block: Bytes) -> Unpacked:
    scale = _half(block, 0)
    return _nibbles(block[:, 2:], 16), scale, -8 * scale


def _q4_1(block: Bytes) -> Unpacked:
    return _nibbles(block[:, 4:], 16), _half(block, 0), _half(block, 2)


def _q5_0(block: Bytes) -> Unpacked:
    scale = _half(block, 0)
    return _nibbles(block[:, 6:], 16) | _fifth_bits(block, 2), scale, -16 * scale


def _q5_1(block: Bytes) -> Unpacked:
    return _nibbles(block[:, 8:], 16) | _fifth_bits(block, 4), _half(block, 0), _half(block, 2)


def _q8_0(block: Bytes) -> Unpacked:
    scale = _half(block, 0)
    return block[:, 2:] ^ np.uint8(128), scale, -128 * scale  # flipping the sign bit adds 128


def _k_scales(block: Bytes) -> tuple[Floats, Floats]:
    """Scales and minima of a super-block's eight blocks: 6-bit numbers in 12 bytes, times two halves."""
    low, high, rest = (block[:, at : at + 4] for at in (4, 8, 12))
    scale = np.concatenate([low & 63, rest & 15 | low >> 2 & 48], axis=1)
    minimum = np.concatenate([high & 63, rest >> 4 | high >> 2 & 48], axis=1)
    return _half(block, 0) * scale.astype(np.float32), -(_half(block, 2) * minimum.astype(np.float32))


def _q4_k(block: Bytes) -> Unpacked:
    return _nibbles(block[:, 16:], 32), *_k_scales(block)


def _q5_k(block: Bytes) -> Unpacked:
    places = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    fifth = (block[:, None, 16:48] >> places & np.uint8(1)) << np.uint8(4)
    return _nibbles(block[:, 48:], 32) | fifth.reshape(len(block), -1), *_k_scales(block)


_UNPACK: dict[GGMLQuantizationType, Callable[[Bytes], Unpacked]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q5_0: _q5_0,
    GGMLQuantizationType.Q5_1: _q5_1,
    GGMLQuantizationType.Q8_0: _q8_0,
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_K: _q5_k,
}
