"""The native library as Python sees it: the structures of step.h and the functions of api.cpp."""

import ctypes
import os
from ctypes import POINTER, c_double, c_float, c_int, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import psutil

BLOCK = 32
# What `spent` counts, in step.h's order; norms with rotations, activations and most of the rounding.
PARTS = ("products", "attention", "norms")


class Matrix(ctypes.Structure):
    """blocks.h: a matrix in panels."""

    _fields_ = [
        ("panels", c_void_p),
        ("bias", c_void_p),
        ("out", c_int32),
        ("columns", c_int32),
        ("bits", c_int32),
        ("wide", c_int32),
        ("zero", c_int32),
        ("terms", c_int32),
    ]


class Layer(ctypes.Structure):
    """step.h: one layer's weights."""

    _fields_ = [
        ("attention_norm", c_void_p),
        ("q_norm", c_void_p),
        ("k_norm", c_void_p),
        ("attention_post_norm", c_void_p),
        ("mlp_norm", c_void_p),
        ("mlp_post_norm", c_void_p),
        ("rotation", c_void_p),
        ("qkv", Matrix),
        ("output", Matrix),
        ("gate_up", Matrix),
        ("down", Matrix),
        ("window", c_int32),
    ]


class Network(ctypes.Structure):
    """step.h: all layers, and their shape."""

    _fields_ = [
        ("layers", POINTER(Layer)),
        ("hidden", c_int32),
        ("heads", c_int32),
        ("kv_heads", c_int32),
        ("dim", c_int32),
        ("ffn", c_int32),
        ("rotary", c_int32),
        ("norm_whole", c_int32),
        ("activation", c_int32),
        ("eps", c_float),
        ("scale", c_float),
        ("embedding", c_void_p),
        ("plain", c_int32),
        ("embedding_scale", c_float),
    ]


class Rows(ctypes.Structure):
    """step.h: the tokens of a call."""

    _fields_ = [
        ("count", c_int32),
        ("slots", c_void_p),
        ("positions", c_void_p),
        ("hidden", c_void_p),
        ("tokens", c_void_p),
    ]


class Cache(ctypes.Structure):
    """step.h: keys and values."""

    _fields_ = [
        ("keys", c_void_p),
        ("values", c_void_p),
        ("layer", c_int64),
        ("head", c_int64),
    ]


class Taps(ctypes.Structure):
    """step.h: what else to keep of a layer."""

    _fields_ = [("qkv", c_void_p), ("attention", c_void_p), ("mlp", c_void_p)]


class Library:
    """The functions of api.cpp. Pointers are tensors' `data_ptr()`.

    `threads`: how many run a call, one for each physical core unless it is set.
    """

    ALONE = 2**15  # numbers that one thread looks through sooner than another wakes

    def __init__(self, path: Path) -> None:
        self.threads = cores()
        handle = ctypes.CDLL(str(path))

        def function(name: str, *arguments: type, result: type | None = None) -> Any:
            found = handle[f"thermoscope_{name}"]
            found.argtypes, found.restype = arguments, result
            return found

        matrix = POINTER(Matrix)
        self.panels_size = function("panels_size", matrix, result=c_int64)
        self.pack = function("pack", matrix, c_void_p, c_void_p, c_void_p, c_void_p)
        self.unpack = function("unpack", matrix, c_void_p)
        self.multiply = function("multiply", matrix, c_void_p, c_int, c_void_p, c_void_p, c_void_p, c_int)
        self.attends = function("attends", c_int, result=c_int)
        self.forward = function(
            "forward",
            POINTER(Network),
            POINTER(Rows),
            POINTER(Cache),
            c_void_p,
            c_int,
            c_int,
            POINTER(Taps),
            c_int,
            c_void_p,
        )
        self.summarise = function(
            "summarise", c_void_p, c_int, c_int, c_void_p, c_int, c_void_p, c_void_p, c_int
        )
        self.draw = function("draw", c_void_p, c_int, c_double, c_double, c_uint64, c_int, result=c_int64)
        self.draw_among = function(
            *("draw_among", c_void_p, c_void_p, c_int, c_double, c_double, c_uint64, c_int), result=c_int64
        )
        self.weigh = function("weigh", c_void_p, c_int, c_double, c_double, c_int, POINTER(c_double))
        self.fewest = function(
            *("fewest", c_void_p, c_int, c_double, c_double, c_double, c_double, c_int, c_void_p),
            result=c_int,
        )
        self.read = function("read", c_void_p, c_int64, c_int, result=c_int64)
        self.unembed = function("unembed", matrix, c_void_p, c_float, c_void_p, c_int, c_void_p, c_int)

    def threads_for(self, numbers: int) -> int:
        """How many threads look through so many numbers, between two steps, when the others sleep."""
        return self.threads if numbers > self.ALONE else 1

    def fault(self) -> str | None:
        """What is wrong with it, told by products of whole numbers, which must come out exact.

        One to eight rows, each of which the compiler made code of its own for.
        """
        return next(filter(None, map(self._fault_of, range(1, 9))), None)

    def _fault_of(self, rows: int) -> str | None:
        out, columns = 16, 2 * BLOCK
        codes = [(7 * i + 3) % 16 for i in range(out * columns)]
        # One 127 in every group makes its scale 1, so that each number is its own code.
        x = [127 if i % BLOCK == 0 else 5 * i % 255 - 127 for i in range(rows * columns)]
        matrix = Matrix(None, None, out, columns, 4, True, -1, 1)
        panels = ctypes.create_string_buffer(self.panels_size(matrix))
        self.pack(matrix, bytes(codes), _floats([1] * out * 2), _floats([-3] * out * 2), panels)
        matrix.panels = ctypes.addressof(panels)
        space, numbers, y = (
            ctypes.create_string_buffer(rows * columns),
            _floats([0] * rows * 4),
            _floats([0] * rows * out),
        )
        self.multiply(matrix, _floats(x), rows, space, numbers, y, 1)
        for place, got in enumerate(y):
            r, o = divmod(place, out)
            row, code = x[r * columns : (r + 1) * columns], codes[o * columns : (o + 1) * columns]
            exact = sum(a * (b - 3) for a, b in zip(row, code, strict=True))
            if got != exact:
                return f"got {got} for a product, expected {exact}"
        return None


def cores() -> int:
    """Physical cores that this process may use."""
    physical: int = psutil.cpu_count(logical=False) or 1
    try:
        return min(physical, len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        return physical


def _floats(numbers: list[int]) -> ctypes.Array[c_float]:
    return (c_float * len(numbers))(*numbers)
