"""Builds the own kernel and packs a model for it, beside a process that serves meanwhile.

python -m thermoscope.models.prepare MODEL [PRECISION]
"""

import contextlib
import os
import sys

from thermoscope.errors import ThermoscopeError
from thermoscope.models.kernels import build


def main() -> None:
    """Do both, with the lowest claim on the processor."""
    name, precision = sys.argv[1], next(iter(sys.argv[2:]), None)
    with contextlib.suppress(AttributeError, OSError):  # Windows has no nice
        os.nice(19)
    build.build()

    from thermoscope.models.model import Model

    Model.load(name, precision=precision, native=True)


if __name__ == "__main__":
    try:
        main()
    except ThermoscopeError as error:
        sys.exit(str(error))
