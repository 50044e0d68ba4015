"""Fixtures that more than one folder of tests needs."""

from pathlib import Path

import pytest

from thermoscope.models.kernels import build
from thermoscope.models.kernels.library import Library
from thermoscope.models.store import locate


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The default model's file, fetched into the user's cache if it is not there yet."""
    return locate("SmolLM2-135M-Instruct", progress=False)


@pytest.fixture(scope="session", autouse=True)
def kernel() -> Library | None:
    """The native library, built once for all tests; without a compiler they run on PyTorch's kernels."""
    if build.built() is None and build.compiler() is None:
        return None
    build.build()
    return build.library()
