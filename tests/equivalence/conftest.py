import pytest
import torch

from thermoscope.models.model import Model


@pytest.fixture(scope="session", params=["fp32", "int4"])
def real(request, smollm2):
    """The default model, in the reference arithmetic and in the one that people get."""
    torch.set_num_threads(2)
    return Model.load(str(smollm2), precision=request.param)


@pytest.fixture(scope="session")
def exact(smollm2):
    torch.set_num_threads(2)
    return Model.load(str(smollm2), precision="fp32")
