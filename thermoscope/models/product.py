"""The matrix product by PyTorch's kernels, in five precisions. The own kernel's is in `models.panels`.

A product takes float32 rows and gives float32 rows; what happens between is its own affair.

| precision | weights in memory                         | activations | what multiplies                     |
|-----------|-------------------------------------------|-------------|-------------------------------------|
| fp32      | float32                                   | float32     | BLAS                                |
| fp16      | float16                                   | float32     | FBGEMM, which widens them on the way |
| bf16      | bfloat16                                  | bfloat16    | oneDNN                              |
| int8      | int8, one scale for each output row       | bfloat16    | `aten::_weight_int8pack_mm`         |
| int4      | 4-bit codes, a scale and a zero for 32    | bfloat16    | `aten::_weight_int4pack_mm_for_cpu` |

Here activations are rounded number by number, never scaled by row or by call, so a row's result depends on
its neighbours at most through the order in which a library sums.
"""

from typing import Protocol, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

BLOCK = 32


class Product(Protocol):
    """x ↦ x Wᵀ."""

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Multiply every row of `x`."""
        ...

    def weight(self) -> Float[Tensor, "out in"]:
        """W as float32: exactly the numbers that the product multiplies with."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The tensors it is made of; the class takes them by these names."""
        ...


class Dense:
    """W as it stands, in bfloat16, float32 or float64, multiplied in its own type."""

    def __init__(self, weight: Float[Tensor, "out in"]) -> None:
        # Few rows times a row-major float32 matrix reads at 40% of the speed of a column-major one.
        self._weight = weight.t().contiguous().t() if weight.dtype == torch.float32 else weight

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Round `x` to the weights' type, multiply, and give float32 or wider."""
        y = F.linear(x.to(self._weight.dtype), self._weight)
        return y.to(torch.promote_types(y.dtype, torch.float32))

    def weight(self) -> Float[Tensor, "out in"]:
        """W as float32."""
        return self._weight.float()

    def state(self) -> dict[str, Tensor]:
        """`weight`."""
        return {"weight": self._weight.contiguous()}


class Half:
    """W in float16, widened to float32 inside the product: float32 in, float32 sums, float32 out.

    A row's result does not depend on how many rows are in the call, to the bit. The operator's name says
    "dynamic" for historical reasons; it scales nothing.
    """

    def __init__(self, weight: Float[Tensor, "out in"]) -> None:
        self._weight = weight
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), None)

    @staticmethod
    def available() -> bool:
        """Whether this build of PyTorch and this processor have FBGEMM."""
        return "fbgemm" in torch.backends.quantized.supported_engines

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Multiply with 16-bit weights."""
        y: Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return y

    def weight(self) -> Float[Tensor, "out in"]:
        """W as float32."""
        return self._weight.float()

    def state(self) -> dict[str, Tensor]:
        """`weight`."""
        return {"weight": self._weight}


class Int8:
    """W ≈ scale · codes, one scale for each output row; only the weights are rounded."""

    def __init__(self, codes: Tensor, scale: Float[Tensor, "out"]) -> None:
        self._codes = _aligned(codes)
        self._scale = _aligned(scale)

    @staticmethod
    def takes(columns: int) -> bool:
        """Whether the kernel can read rows of this length; it crashes on others."""
        return columns % 16 == 0

    @classmethod
    def quantise(cls, weight: Float[Tensor, "out in"]) -> Self:
        """Round each row to 255 levels, symmetric about zero."""
        # bfloat16 is what the kernel reads, so the codes are rounded against the scale that it will use.
        scale = (weight.float().abs().amax(dim=1) / 127).clamp(min=1e-30).bfloat16()
        codes = (weight.float() / scale.float()[:, None]).round().clamp(-128, 127).to(torch.int8)
        return cls(codes, scale)

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Multiply with 8-bit weights."""
        y: Tensor = torch.ops.aten._weight_int8pack_mm(x.bfloat16(), self._codes, self._scale)
        return y.float()

    def weight(self) -> Float[Tensor, "out in"]:
        """W as float32."""
        return self._codes.float() * self._scale.float()[:, None]

    def state(self) -> dict[str, Tensor]:
        """`codes` and `scale`."""
        return {"codes": self._codes, "scale": self._scale}


class Int4:
    """W = scale · (code − 8) + zero in blocks of 32 columns, packed as PyTorch's kernel wants it."""

    def __init__(self, packed: Tensor, scale_zero: Float[Tensor, "blocks out 2"]) -> None:
        self._packed = packed
        self._scale_zero = scale_zero

    @staticmethod
    def takes(codes: UInt8[Tensor, "out in"]) -> bool:
        """Whether the kernel has a path for these blocks: 4 bits, and rows in sixteens."""
        return int(codes.max()) < 16 and codes.shape[0] % 16 == 0

    @classmethod
    def pack(
        cls,
        codes: UInt8[Tensor, "out in"],
        scale: Float[Tensor, "out blocks"],
        minimum: Float[Tensor, "out blocks"],
    ) -> Self:
        """Take blocks W = scale · code + minimum as a GGUF file stores them; zero = minimum + 8 scale."""
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.to(torch.int32), 1)
        scale_zero = torch.stack((scale.T, (minimum + 8 * scale).T), dim=-1)
        return cls(packed, scale_zero.bfloat16().contiguous())

    def __call__(self, x: Float[Tensor, "rows in"]) -> Float[Tensor, "rows out"]:
        """Multiply with 4-bit weights."""
        return self._multiply(x, self._scale_zero)

    def weight(self) -> Float[Tensor, "out in"]:
        """W as float32. The packed layout is the kernel's own, so the kernel reads the codes back."""
        scale, zero = self._scale_zero.float().unbind(dim=-1)
        unit = torch.ones_like(self._scale_zero)
        unit[..., 1] = 8  # 1 · (code − 8) + 8 = code
        identity = torch.eye(BLOCK * len(unit), device=unit.device)
        codes = self._multiply(identity, unit).T
        blocks = codes.reshape(len(codes), -1, BLOCK)
        weight: Tensor = scale.T[..., None] * (blocks - 8) + zero.T[..., None]
        return weight.flatten(1)

    def state(self) -> dict[str, Tensor]:
        """`packed` and `scale_zero`."""
        return {"packed": self._packed, "scale_zero": self._scale_zero}

    def _multiply(self, x: Tensor, scale_zero: Tensor) -> Tensor:
        multiply = torch.ops.aten._weight_int4pack_mm_for_cpu
        y: Tensor = multiply(x.bfloat16(), self._packed, BLOCK, scale_zero)
        return y.float()


def _aligned(tensor: Tensor) -> Tensor:
    """For a kernel that crashes elsewhere; tensors of a mapped file stand on any multiple of 8."""
    return tensor if tensor.data_ptr() % 64 == 0 else tensor.clone()
