import pytest

from thermoscope.errors import KernelUnavailable
from thermoscope.models.kernels import build


@pytest.fixture(scope="session")
def kernel():
    """The build of the native library that this machine runs; made once, in the user's cache."""
    try:
        return build.build()
    except KernelUnavailable as error:
        pytest.skip(str(error))
