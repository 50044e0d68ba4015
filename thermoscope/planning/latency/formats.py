"""How weights are stored and multiplied: bytes for each, and the arithmetic that a product runs in."""

from dataclasses import dataclass
from typing import Literal

from thermoscope.errors import InvalidRequest

ACTIVATIONS = {"fp32": 4, "fp16": 2, "bf16": 2}  # bytes of one number between products
Width = Literal["full", "8bit", "4bit"]


@dataclass(frozen=True)
class Format:
    """One way to keep the weights of the layers' products.

    - `bits`: of a weight, its share of scales and zeros included.
    - `arithmetic`: the precision that products run in; None is that of the activations.
    - `width`: the class of kernels that read it. `head`: bits of the output projection's; None is
      those of the activations.
    - `stored`: the form of `planning.memory.storage` that is nearest in size.
    """

    name: str
    bits: float
    arithmetic: str | None
    width: Width
    stored: str
    head: float | None = None

    @property
    def bytes(self) -> float:
        """Bytes of one weight."""
        return self.bits / 8

    @property
    def unpacked(self) -> bool:
        """Whether weights become numbers of another precision before they are multiplied."""
        return self.width != "full" and self.arithmetic is None


FORMATS = {
    each.name: each
    for each in (
        Format("fp32", 32, "fp32", "full", "fp32", head=32),
        Format("fp16", 16, "fp16", "full", "fp16", head=16),
        Format("bf16", 16, "bf16", "full", "bf16", head=16),
        Format("fp8", 8, "fp8", "8bit", "fp8"),
        Format("int8", 8, None, "8bit", "int8", head=8),  # weight only, a scale for each row of it
        Format("w8a8", 8, "int8", "8bit", "int8"),
        Format("int4", 4.5, None, "4bit", "awq-4bit", head=4.5),  # a 16-bit scale for 32 weights
        Format("int4-g128", 4.25, None, "4bit", "awq-4bit"),  # scale and zero for 128: AWQ, GPTQ
        Format("nf4", 4.127, None, "4bit", "nf4-dq"),  # QLoRA's double quantisation, a block of 64
        Format("fp4", 4.5, "fp4", "4bit", "awq-4bit"),  # an 8-bit scale for 16 weights
        Format("q8_0", 8.5, None, "8bit", "int8", head=8.5),
        Format("q6_k", 6.5625, None, "8bit", "int8", head=6.5625),
        Format("q5_k", 5.5, None, "4bit", "awq-4bit", head=6.5625),
        Format(
            "q4_1", 5, None, "4bit", "awq-4bit", head=8.5
        ),  # this program's int4: scale and minimum for 32
        Format("q4_0", 4.5, None, "4bit", "awq-4bit", head=6.5625),
        Format(
            "q4_k", 4.85, None, "4bit", "awq-4bit", head=6.5625
        ),  # as the mixture Q4_K_M, which keeps some in Q6_K
    )
}


def weight_format(name: str) -> Format:
    """The format of that name.

    **Errors:** `InvalidRequest`.
    """
    if name not in FORMATS:
        raise InvalidRequest(f"weights: got {name!r}, expected one of {', '.join(FORMATS)}.", param="weights")
    return FORMATS[name]


def activation_bytes(precision: str) -> int:
    """Bytes of one number of the residual stream.

    **Errors:** `InvalidRequest`.
    """
    if precision not in ACTIVATIONS:
        raise InvalidRequest(
            f"dtype: got {precision!r}, expected one of {', '.join(ACTIVATIONS)}.", param="dtype"
        )
    return ACTIVATIONS[precision]
