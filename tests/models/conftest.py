import pytest

from thermoscope.errors import KernelUnavailable
from thermoscope.models.kernels import build


@pytest.fixture(scope="session")
def compiled():
    """The build that this machine runs, for tests of it; they are skipped where there is no compiler."""
    try:
        return build.build()
    except KernelUnavailable as error:
        pytest.skip(str(error))
