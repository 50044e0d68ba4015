"""The product that the own kernel computes: weights in blocks of 32, activations in int8 in groups of 32.

W = scale · code + minimum, codes of 4 or 8 bits, laid out in panels of sixteen rows (kernels/blocks.h). A row
x is rounded to x ≈ scale · code, one scale for 32 neighbours, and with two terms so is what that leaves; sums
within a block are integers. So a row's result depends on the row alone, to the bit.
"""

from collections.abc import Sequence
from typing import Self

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from thermoscope.models.checkpoint import Blocks
from thermoscope.models.kernels import operator
from thermoscope.models.kernels.native import BLOCK, Matrix

ZEROS = (8, 16, 128)  # codes that stand for 0 in Q4_0, Q5_0 and Q8_0


class Panels:
    """W in panels.

    - `panels`: the bytes. `form`: out, in, bits, whether scales are float32 (else float16), and the code that
      stands for 0, or -1 where minima are stored; and how many terms of 8 bits each activation is taken as.
    """

    def __init__(self, panels: UInt8[Tensor, "bytes"], form: Int[Tensor, "6"]) -> None:
        self._panels = panels
        self._form = form
        self.out, self.columns, self._bits, self._wide, self._zero, self._terms = form.tolist()

    @staticmethod
    def takes(columns: int) -> bool:
        """Whether rows of this length can be cut into blocks."""
        return columns % BLOCK == 0

    @classmethod
    def pack(cls, parts: Sequence[Blocks], *, terms: int = 1) -> Self:
        """Matrices one above the other, exactly as their blocks say.

        Codes take 4 bits where all fit; scales and minima 16 bits where that is exact; and minima nothing
        where all of them are the same multiple of their scale.
        """
        codes, scale, minimum = (torch.cat(each).contiguous() for each in zip(*parts, strict=True))
        zero = next((zero for zero in ZEROS if torch.equal(minimum, -zero * scale)), -1)
        numbers = [scale] if zero >= 0 else [scale, minimum]
        wide = not all(torch.equal(each.half().float(), each) for each in numbers)
        if not wide:
            scale, minimum = scale.half(), minimum.half()
        out, columns = codes.shape
        form = torch.tensor(
            [out, columns, 4 if int(codes.max()) < 16 else 8, wide, zero, terms], dtype=torch.int32
        )
        return cls(operator.pack(codes, scale, minimum, form), form)

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Multiply every row of `x`."""
        y: Tensor = torch.ops.thermoscope.panels_linear(
            x, self._panels, self.out, self._bits, bool(self._wide), self._zero, self._terms
        )
        return y

    def weight(self) -> Float[Tensor, "out in"]:
        """W as float32."""
        return operator.unpack(self._panels, self._form)

    def state(self) -> dict[str, Tensor]:
        """`panels` and `form`."""
        return {"panels": self._panels, "form": self._form}

    def matrix(self, bias: Float[Tensor, "out"] | None = None) -> Matrix:
        """What the library takes; it holds addresses, so this object and the bias must outlive it."""
        return operator.matrix(self._panels, self._form, bias)


def quantise(weight: Float[Tensor, "out in"], bits: int) -> Blocks:
    """Round a matrix to blocks of 32: 8 bits symmetric about 0 as Q8_0, 4 bits between the extremes as Q4_1.

    Scales and minima are rounded to float16 before the codes are chosen, so that the codes fit them.
    """
    blocks = weight.float().view(len(weight), -1, BLOCK)
    if bits == 8:
        scale = (blocks.abs().amax(dim=2) / 127).half().float()
        minimum, steps = -128 * scale, 255
    else:
        low, high = blocks.amin(dim=2), blocks.amax(dim=2)
        scale, minimum, steps = ((high - low) / 15).half().float(), low.half().float(), 15
    inverse = torch.where(scale > 0, 1 / scale, 0.0)
    codes = ((blocks - minimum[..., None]) * inverse[..., None]).round().clamp(0, steps)
    return Blocks(codes.to(torch.uint8).flatten(1), scale, minimum)
