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
def built() -> bool:
    """Whether there is a native library, built once for all tests; they run without one, too."""
    if build.built() is None and not build.compiler():
        return False
    build.build()
    return build.available()


@pytest.fixture(scope="session")
def kernel(built: bool) -> Library:
    """The native library; tests of it are skipped where there is no compiler."""
    if not built:
        pytest.skip("no compiler here, so no kernel")
    return build.library()
