"""The header of a GGUF file: its metadata, and where each tensor's bytes lie.

The `gguf` package has a reader too. This one exists because a header is read at every start, and because a
header may be hostile: here every length is checked against the file before anything is built from it
(a count of 2⁶⁰ costs nothing), and 100,000 strings take a tenth of a second in place of two.
"""

import math
import mmap
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from thermoscope.errors import BadModelFile, UnsupportedModel

MAGIC = b"GGUF"
ALIGNMENT = 32  # the format's default; the key general.alignment overrides it
ADVICE = "the file is cut short or corrupt; fetch it again"

_SCALARS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.FLOAT64: "<f8",
    GGUFValueType.BOOL: "?",
}


class TensorInfo(NamedTuple):
    """One tensor: its shape with rows first, its type, and its bytes' place in the file."""

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    size: int


class Header(NamedTuple):
    """Everything in the file but the tensors' data."""

    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read_header(path: Path) -> Header:
    """Parse a GGUF file's header and check that every tensor lies within the file.

    **Errors:** `BadModelFile` where the bytes are not a whole GGUF file; `UnsupportedModel` for a version,
    byte order or tensor type that this program does not know.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Cursor(data, path.name).header()
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise BadModelFile(f"{path.name}: got a broken GGUF header ({error}): {ADVICE}.") from error
    except OSError as error:
        raise BadModelFile(f"{path}: cannot be read ({error.strerror}); check its permissions.") from error


class _Cursor:
    """A place in the file that moves on as values are read."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self.data, self.name, self.at = data, name, 0

    def header(self) -> Header:
        if (magic := self.take(4)) != MAGIC:
            raise BadModelFile(f"{self.name}: got magic {magic!r}, expected {MAGIC!r}: this is no GGUF file.")
        version = self.number("I")
        if version not in (2, 3):
            raise UnsupportedModel(
                f"{self.name}: got GGUF version {version}, expected 2 or 3 (little-endian); convert it anew."
            )
        tensors, keys = self.number("Q"), self.number("Q")
        metadata: dict[str, Any] = {}
        for _ in range(keys):
            key = self.string()
            if key in metadata:
                raise BadModelFile(f"{self.name}: got key {key!r} twice, expected it once: {ADVICE}.")
            metadata[key] = self.value(self.number("I"))
        entries = [self.entry() for _ in range(tensors)]
        align = metadata.get("general.alignment", ALIGNMENT)
        if not isinstance(align, int) or align < 1 or align & (align - 1):
            raise BadModelFile(
                f"{self.name}: general.alignment: got {align!r}, expected a power of two: {ADVICE}."
            )
        start = -(-self.at // align) * align
        placed: dict[str, TensorInfo] = {}
        for name, shape, kind, offset in entries:
            if name in placed:
                raise BadModelFile(f"{self.name}: got tensor {name!r} twice, expected it once: {ADVICE}.")
            placed[name] = self.place(name, shape, kind, start + offset)
        return Header(metadata, placed)

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            raise BadModelFile(
                f"{self.name}: got {len(self.data):,} bytes, expected at least {end:,} "
                f"for its header: {ADVICE}."
            )
        found = self.data[self.at : end]
        self.at = end
        return found

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return int(value)

    def string(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")

    def value(self, raw_kind: int) -> Any:
        kind = GGUFValueType(raw_kind)
        if kind is GGUFValueType.STRING:
            return self.string()
        if kind is GGUFValueType.ARRAY:
            return self.array(GGUFValueType(self.number("I")), self.number("Q"))
        return self.array(kind, 1)[0]

    def array(self, kind: GGUFValueType, count: int) -> list[Any]:
        if kind is GGUFValueType.STRING:
            return [self.string() for _ in range(count)]
        if kind not in _SCALARS:
            raise BadModelFile(
                f"{self.name}: got an array of {kind.name}, expected numbers or strings: {ADVICE}."
            )
        dtype = np.dtype(_SCALARS[kind])
        found: list[Any] = np.frombuffer(self.take(count * dtype.itemsize), dtype).tolist()
        return found

    def entry(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name, dims = self.string(), self.number("I")
        if not 1 <= dims <= 4:
            raise BadModelFile(f"{self.name}: {name!r}: got {dims} dimensions, expected 1 to 4: {ADVICE}.")
        shape = tuple(self.number("Q") for _ in range(dims))[::-1]  # the file counts columns first
        raw_kind, offset = self.number("I"), self.number("Q")
        if raw_kind not in set(GGMLQuantizationType):
            raise UnsupportedModel(
                f"{self.name}: {name!r}: got tensor type {raw_kind}, which is unknown here; "
                "expected a usual type such as Q4_0, Q8_0 or F16."
            )
        return name, shape, GGMLQuantizationType(raw_kind), offset

    def place(self, name: str, shape: tuple[int, ...], kind: GGMLQuantizationType, start: int) -> TensorInfo:
        block, width = GGML_QUANT_SIZES[kind]
        if shape[-1] % block:
            raise BadModelFile(
                f"{self.name}: {name!r}: got rows of {shape[-1]}, "
                f"expected a multiple of {block} for {kind.name}: {ADVICE}."
            )
        size = math.prod(shape) // block * width
        if start + size > len(self.data):
            raise BadModelFile(
                f"{self.name}: got {len(self.data):,} bytes, expected at least {start + size:,} "
                f"for {name!r}: {ADVICE}."
            )
        return TensorInfo(shape, kind, start, size)
