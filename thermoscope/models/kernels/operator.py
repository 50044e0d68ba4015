"""The native product as functions on tensors, and as an operator that PyTorch can trace.

`torch.compile` and FakeTensor see through `thermoscope::panels_linear` by its fake form.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from thermoscope.errors import BadModelFile
from thermoscope.models.kernels import build
from thermoscope.models.kernels.native import BLOCK, Matrix


def matrix(
    panels: UInt8[Tensor, "bytes"], form: Int[Tensor, "6"], bias: Float[Tensor, "out"] | None = None
) -> Matrix:
    """The structure that the library takes; it holds addresses of tensors, and keeps none alive.

    **Errors:** `BadModelFile` for panels or a bias of another size than the form says.
    """
    about = Matrix(panels.data_ptr(), None if bias is None else bias.data_ptr(), *form.tolist())
    size = build.loaded().panels_size(about)
    if panels.nbytes != size or (bias is not None and len(bias) != about.out):
        raise BadModelFile(
            f"panels: got {panels.nbytes:,} bytes, expected {size:,}; delete the packed model from the cache."
        )
    return about


def pack(
    codes: UInt8[Tensor, "out in"],
    scale: Float[Tensor, "out blocks"],
    minimum: Float[Tensor, "out blocks"],
    form: Int[Tensor, "6"],
) -> UInt8[Tensor, "bytes"]:
    """Codes and numbers in their final type -> panels."""
    library = build.loaded()
    about = Matrix(None, None, *form.tolist())
    panels = torch.empty(library.panels_size(about), dtype=torch.uint8)
    parts = [each.contiguous() for each in (codes, scale, minimum)]  # alive until they are packed
    library.pack(about, *(part.data_ptr() for part in parts), panels.data_ptr())
    return panels


def unpack(panels: UInt8[Tensor, "bytes"], form: Int[Tensor, "6"]) -> Float[Tensor, "out in"]:
    """Panels -> the matrix that they hold."""
    weight = torch.empty(*form[:2].tolist())
    build.loaded().unpack(matrix(panels, form), weight.data_ptr())
    return weight


@torch.library.custom_op("thermoscope::panels_linear", mutates_args=(), device_types="cpu")
def panels_linear(
    x: Tensor, panels: Tensor, out: int, bits: int, wide: bool, zero: int, terms: int
) -> Tensor:
    """x Wᵀ for rows `x` in float32, quantised in groups of 32 on the way."""
    x = x.contiguous()
    rows, columns = x.shape
    about = Matrix(panels.data_ptr(), None, out, columns, bits, wide, zero, terms)
    library = build.loaded()
    if x.dtype != torch.float32 or columns % BLOCK or panels.nbytes != library.panels_size(about):
        raise ValueError(
            f"panels_linear: got {list(x.shape)} in {x.dtype}, expected float32, "
            "and rows as long as the matrix's."
        )
    y = x.new_empty(rows, out)
    codes = torch.empty(terms * rows, columns, dtype=torch.int8)
    numbers = x.new_empty(2, terms * rows, columns // BLOCK)
    library.multiply(
        about, x.data_ptr(), rows, codes.data_ptr(), numbers.data_ptr(), y.data_ptr(), library.threads
    )
    return y


@panels_linear.register_fake
def _(x: Tensor, panels: Tensor, out: int, bits: int, wide: bool, zero: int, terms: int) -> Tensor:  # noqa: ARG001
    return x.new_empty(x.shape[0], out)
