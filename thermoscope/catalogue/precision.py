"""The precisions that a model can run at, by name; `models.product` says what each one is."""

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
NATIVE: tuple[Precision, ...] = ("int4", "int8")  # those that the own kernel has
