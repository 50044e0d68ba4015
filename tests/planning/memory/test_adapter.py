import pytest

from tests.planning.memory.shapes import LATENT, LLAMA, MISTRAL, MIXTURE
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.adapter import Adapter, prefix_parameters, prompt_parameters, targets


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("q,v", ("q", "v")),
        ("q_proj, k_proj,v_proj,o_proj", ("q", "k", "v", "o")),
        ("all-linear,head", ("q", "k", "v", "o", "gate", "up", "down", "head")),
        ("mlp,up", ("gate", "up", "down")),
    ],
)
def test_targets_in_every_spelling(written, names):
    assert targets(written) == names


def test_an_unknown_target_is_refused():
    with pytest.raises(InvalidRequest, match="targets: got 'w1', expected some of q, k, v, o"):
        targets("q,w1")


def test_counts_that_others_have_printed():
    # LitGPT prints 4,194,304 for Llama-2-7B, r = 8 on Q and V; peft 13,631,488 for Mistral-7B, r = 16 on Q,
    # K, V, O.
    assert Adapter(rank=8, targets=("q", "v")).parameters(LLAMA) == 4_194_304
    assert Adapter(rank=16).parameters(MISTRAL) == 13_631_488


def test_dora_has_a_number_for_each_row():
    more = Adapter(rank=4, dora=True).parameters(LLAMA) - Adapter(rank=4).parameters(LLAMA)
    assert more == 32 * 4 * 4096


def test_every_expert_has_its_own():
    found = Adapter(rank=2, targets=("gate",)).parameters(MIXTURE)
    assert found == 2 * (128 + 64) + 8 * 2 * (96 + 64)  # the dense layer, and eight experts


def test_latent_attention_s_matrices_stand_for_q_k_and_v():
    names = [each.name for each in Adapter(rank=2, targets=("q", "k", "v")).on(LATENT, 0)]
    assert names == ["q_a", "q_b", "kv_a", "kv_b"]


def test_a_rank_larger_than_a_matrix_is_refused():
    with pytest.raises(
        InvalidRequest, match=r"rank: got 1025, expected at most 1024, .* of k \(1024 × 4096\)"
    ):
        Adapter(rank=1025).parameters(MISTRAL)


def test_prefixes_and_prompts():
    assert prefix_parameters(MISTRAL, 10) == 10 * 32 * 2 * 8 * 128
    assert prompt_parameters(MISTRAL, 10) == 10 * 4096
