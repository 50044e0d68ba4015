"""Where texts that begin alike part."""

from collections.abc import Sequence
from itertools import takewhile


def shared(*texts: Sequence[int]) -> int:
    """How many tokens all of the texts begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False)))
