"""Where a number may lie: one check, and one sentence for who is outside."""

import math
from numbers import Integral, Real

from thermoscope.errors import InvalidRequest


def within(param: str, value: object, low: float, high: float, *, whole: bool = False) -> None:
    """Raise `InvalidRequest` for a value that is no number, not whole where it must be, or out of range.

    NaN lies nowhere, and true and false are no numbers.
    """
    kind = "a whole number" if whole else "a number"
    is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]  # is_number says that it compares
        upper = f"to {high:g}" if math.isfinite(high) else "or more"
        raise InvalidRequest(f"{param}: got {value!r}, expected {kind}, {low:g} {upper}.", param=param)
