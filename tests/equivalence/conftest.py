import pytest

from thermoscope.models.model import Model


@pytest.fixture(
    scope="session",
    params=[("fp32", False), ("int4", True), ("int4", False)],
    ids=["fp32", "int4", "int4-torch"],
)
def real(request, smollm2):
    """The default model: the reference arithmetic, the one that people get, and that without a compiler."""
    precision, native = request.param
    return Model.load(str(smollm2), precision=precision, native=native)


@pytest.fixture(scope="session")
def exact(smollm2):
    return Model.load(str(smollm2), precision="fp32")
