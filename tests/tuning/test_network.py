from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from tests.planning.memory.shapes import QWEN, SMALL
from thermoscope.errors import UnsupportedModel
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.training import Training
from thermoscope.tuning.network import network

# peft asks transformers by an older name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
FULL = Training(shape=SMALL, method="full", sequence=64)
LORA = replace(FULL, method="lora", adapter=Adapter(rank=4, targets=("q", "down")))


def test_it_has_the_shapes_parameters_and_no_memory():
    model = network(FULL, 3, FakeTensorMode())
    parameters = list(model.parameters())
    assert sum(each.numel() for each in parameters) == replace(SMALL, layers=3).parameters
    assert all(isinstance(each, FakeTensor) and each.dtype == torch.bfloat16 for each in parameters)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        (SMALL, "LlamaForCausalLM"), (replace(SMALL, qkv_bias=True), "Qwen2ForCausalLM"),
        (replace(SMALL, qkv_bias=True, output_bias=True), "LlamaForCausalLM"), (QWEN, "Qwen3ForCausalLM"),
        (replace(SMALL, norm_float32=True, activation="gelu_tanh"), "GemmaForCausalLM"),
    ],
)  # fmt: skip
def test_the_family_follows_from_the_shape(shape, name):
    assert type(network(replace(FULL, shape=shape), 2, FakeTensorMode())).__name__ == name


def test_a_tied_head_stays_tied():
    model = network(replace(FULL, shape=replace(SMALL, tied=True)), 2, FakeTensorMode())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_only_adapters_are_trained_and_in_float32():
    trained = dict(network(LORA, 2, FakeTensorMode()).named_parameters())
    assert sum(each.numel() for each in trained.values()) == LORA.trained
    assert {each.dtype for each in trained.values()} == {torch.float32}
    assert all("lora_" in name for name in trained)


def test_a_shape_that_transformers_network_does_not_have_is_refused():
    job = replace(FULL, shape=replace(QWEN, mlp_bias=True))
    with pytest.raises(UnsupportedModel, match=r"trace: got [\d,]+ parameters in 2 layers of Qwen3-0.6B, "):
        network(job, 2, FakeTensorMode())
