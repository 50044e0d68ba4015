import pytest

from tests.planning.memory.shapes import LLAMA, MISTRAL, MIXTURE, QWEN
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory import storage

LINEAR = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096)  # of Mistral-7B's layers
TABLES = 2 * 32000 * 4096
NORMS = 65 * 4096


@pytest.mark.parametrize(("name", "width"), [("fp32", 4), ("bf16", 2), ("fp16", 2)])
@pytest.mark.parametrize("shape", [MISTRAL, LLAMA, QWEN, MIXTURE])
def test_plain_weights_are_parameters_times_width(shape, name, width):
    assert storage.weights(shape, name).total == width * shape.parameters


def test_nf4_blocks_by_hand():
    blocks = LINEAR / 64
    plain = 2 * (TABLES + NORMS)
    assert storage.weights(MISTRAL, "nf4").total == LINEAR / 2 + 4 * blocks + plain
    nested = blocks + 4 * blocks / 256
    assert storage.weights(MISTRAL, "nf4-dq").total == pytest.approx(LINEAR / 2 + nested + plain)


def test_gptq_has_scales_zeros_and_an_index_for_each_input():
    groups = LINEAR / 128
    index = 4 * 32 * (6 * 4096 + 14336)
    expected = LINEAR / 2 + 2 * groups + groups / 2 + index + 2 * (TABLES + NORMS)
    assert storage.weights(MISTRAL, "gptq-4bit").total == pytest.approx(expected)


def test_experts_stand_apart_and_routers_stay_wide():
    kept = storage.weights(MIXTURE, "bf16")
    assert kept.experts == 2 * 8 * 3 * 64 * 96
    router = 8 * 64
    coarse = storage.weights(MIXTURE, "nf4")
    matrices = 2 * 4 * 64 * 64 + 3 * 64 * 128  # attention twice, and the dense layer's MLP
    norms = 2 * 2 * 64
    assert coarse.layers == matrices * (1 / 2 + 4 / 64) + 2 * (router + norms)


def test_a_tied_head_counts_once_unless_it_is_copied():
    copy = storage.weights(QWEN, "bf16", untied=True).total - storage.weights(QWEN, "bf16").total
    assert copy == 2 * 151936 * 1024


def test_an_unknown_form_is_refused():
    with pytest.raises(InvalidRequest, match="weights: got 'int3', expected one of fp32, "):
        storage.form("int3")
