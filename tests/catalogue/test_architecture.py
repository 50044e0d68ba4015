import dataclasses

import pytest

from thermoscope.catalogue.architecture import Architecture, Experts, Latent
from thermoscope.errors import BadModelFile

TINY = Architecture(
    **{"name": "tiny", "hidden": 8, "layers": 3, "heads": 4, "kv_heads": 2, "head_dim": 2, "ffn": 10},
    **{"vocab": 20, "context": 16},
)
EXPERTS = Experts(count=4, active=2, ffn=6)
LATENT = Latent(q_rank=5, kv_rank=3, rope_dim=2, nope_dim=4, v_dim=6)


def changed(**more):
    return dataclasses.replace(TINY, **more)


def test_parameters_of_a_llama_by_hand():
    attention = 8 * 8 + 8 * 4 + 8 * 4 + 8 * 8
    layer = attention + 3 * 8 * 10 + 2 * 8
    assert TINY.parameters == TINY.active_parameters == 3 * layer + 2 * 20 * 8 + 8
    assert changed(tied=True).parameters == TINY.parameters - 20 * 8


@pytest.mark.parametrize(
    ("more", "added"),
    [
        ({"qkv_bias": True}, 3 * (8 + 4 + 4)),
        ({"output_bias": True}, 3 * 8),
        ({"mlp_bias": True}, 3 * (10 + 10 + 8)),
        ({"head_bias": True}, 20),
        ({"qk_norm": "head"}, 3 * 2 * 2),
        ({"qk_norm": "whole"}, 3 * (8 + 4)),
        ({"norms": 4}, 3 * 2 * 8),
        ({"norm": "layer", "norm_bias": True}, 3 * 2 * 8 + 8),
        ({"norm": "layer", "norm_weight": False}, -(3 * 2 * 8 + 8)),
        ({"embedding_norm": True}, 8),
        ({"sinks": True}, 3 * 4),
        ({"positions": "learned"}, 16 * 8),
        ({"positions": "learned", "position_rows": 18}, 18 * 8),
        ({"gated": False}, -3 * 8 * 10),
        ({"parallel_block": True, "norms": 1}, -3 * 8),
        ({"experts": EXPERTS}, 3 * (4 * 3 * 8 * 6 + 4 * 8 - 3 * 8 * 10)),
        ({"experts": dataclasses.replace(EXPERTS, dense_layers=2)}, 4 * 3 * 8 * 6 + 4 * 8 - 3 * 8 * 10),
        (
            {"experts": dataclasses.replace(EXPERTS, sparse=(False, True))},
            4 * 3 * 8 * 6 + 4 * 8 - 3 * 8 * 10,
        ),
        (
            {"experts": dataclasses.replace(EXPERTS, shared_ffn=7, shared_gate=True, router_bias=True)},
            3 * (4 * 3 * 8 * 6 + 4 * 8 + 4 + 3 * 8 * 7 + 8 - 3 * 8 * 10),
        ),
        (
            {"latent": LATENT},
            3 * (8 * 5 + 5 + 5 * 4 * 6 + 8 * (3 + 2) + 3 + 3 * 4 * (4 + 6) + 4 * 6 * 8 - 192),
        ),
        (
            {"latent": dataclasses.replace(LATENT, q_rank=None)},
            3 * (8 * 4 * 6 + 8 * (3 + 2) + 3 + 3 * 4 * (4 + 6) + 4 * 6 * 8 - 192),
        ),
    ],
)
def test_what_each_trait_adds(more, added):
    assert changed(**more).parameters == TINY.parameters + added


def test_only_the_experts_at_work_are_active():
    sparse = changed(experts=EXPERTS)
    assert sparse.active_parameters == sparse.parameters - 3 * (4 - 2) * 3 * 8 * 6


def test_matrices_have_their_names_and_counts():
    assert [each.name for each in TINY.matrices(0)] == ["q", "k", "v", "o", "gate", "up", "down"]
    mixed = changed(experts=dataclasses.replace(EXPERTS, shared_ffn=7, dense_layers=1))
    assert [each.name for each in mixed.mlp(0)] == ["gate", "up", "down"]
    names = [
        "router",
        "experts.gate",
        "experts.up",
        "experts.down",
        "shared.gate",
        "shared.up",
        "shared.down",
    ]
    assert [each.name for each in mixed.mlp(2)] == names
    down = mixed.mlp(2)[3]
    assert (down.rows, down.columns, down.count, down.active) == (8, 6, 4, 2)


def test_what_is_cached():
    assert TINY.kv_values == 2 * 2 * 2
    assert changed(latent=LATENT).kv_values == 3 + 2


def test_windows_repeat_to_the_models_depth():
    assert [TINY.window_at(i) for i in range(3)] == [None, None, None]
    assert [changed(window=4).window_at(i) for i in range(3)] == [4, 4, 4]
    assert [changed(window=4, windowed=(True, False)).window_at(i) for i in range(3)] == [4, None, 4]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"layers": 0}, "tiny: layers: got 0, expected a whole number, 1 or more"),
        ({"hidden": 8.0}, "tiny: hidden: got 8.0"),
        ({"kv_heads": 3}, "tiny: got 4 heads on 3 KV heads"),
    ],
)
def test_sizes_are_checked(more, message):
    with pytest.raises(BadModelFile, match=message):
        changed(**more)
    with pytest.raises(BadModelFile, match="at most the 4"):
        Experts(count=4, active=5, ffn=6)
