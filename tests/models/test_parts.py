import math
from dataclasses import replace

import pytest

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import BadModelFile, UnsupportedModel
from thermoscope.models.names import Names, folder_names, gguf_names
from thermoscope.models.parts import Place, parts_of, places_of, shape_of

CONFIG = ModelConfig(
    family="qwen3",
    vocab=100,
    hidden=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    ffn=96,
    context=128,
    norm_eps=1e-6,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    qk_norm=True,
)
MIXTURE = {"experts": 3, "experts_per_token": 2, "expert_ffn": 40, "sparse": (False, True)}
FORMATS = {"folder": (folder_names, "model.layers.{}."), "gguf": (gguf_names, "blk.{}.")}


def tensors(kind: str, config: ModelConfig) -> tuple[Names, dict[str, tuple[int, ...]]]:
    """A format's names, and tensors that hold every part once, in the first form that it has for them."""
    make, frame = FORMATS[kind]
    names = make(config)
    candidates = list(names.whole)
    for layer in range(config.layers):
        candidates += [
            frame.format(layer) + leaf.format(expert)
            for leaf in names.layer
            for expert in range(max(1, config.experts))
        ]
    missing, shapes = set(parts_of(config)), {}
    for tensor in candidates:
        parts = names.parts(tensor, config.experts)
        if parts and missing.issuperset(parts):
            missing -= set(parts)
            each = [shape_of(part, config) for part in parts]
            shapes[tensor] = (sum(shape[0] for shape in each), *each[0][1:])
    return names, shapes


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tied": True},
        {"norm": "layer", "learned_positions": True, "gated": False, "qk_norm": False},
        {"pre_norm": False, "post_norm": True, "qk_norm_whole": True},
        {"mlp_bias": False, **MIXTURE},
    ],
    ids=["plain", "tied", "gpt2", "olmo2", "experts"],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_the_parts_add_up_to_the_models_parameters_and_have_a_name(kind: str, changed: dict) -> None:
    config = replace(CONFIG, **changed)
    assert sum(math.prod(shape_of(part, config)) for part in parts_of(config)) == config.parameters
    names, shapes = tensors(kind, config)
    places = places_of(shapes, names, config, "model")
    assert places.keys() == set(parts_of(config))
    assert all(place.stop - place.start == shape_of(part, config)[0] for part, place in places.items())


@pytest.mark.parametrize(
    ("kind", "qkv", "gate_up"),
    [
        ("folder", "model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"),
        ("gguf", "blk.0.attn_qkv.weight", "blk.0.ffn_up.weight"),
    ],
)
def test_a_tensor_of_several_parts_is_cut_into_rows(kind: str, qkv: str, gate_up: str) -> None:
    plain = {"qkv_bias": False, "output_bias": False, "mlp_bias": False, "qk_norm": False}
    config = replace(CONFIG, family="phi3", layers=1, **plain)
    names, shapes = tensors(kind, config)
    fused = {f"layers.0.{part}" for part in ("q", "k", "v", "gate", "up")}
    shapes = {name: shape for name, shape in shapes.items() if fused.isdisjoint(names.parts(name, 0))}
    places = places_of(shapes | {qkv: (256, 64), gate_up: (192, 64)}, names, config, "model")
    assert [places[f"layers.0.{part}"] for part in "qkv"] == [
        Place(qkv, 0, 128),
        Place(qkv, 128, 192),
        Place(qkv, 192, 256),
    ]
    assert places["layers.0.up"] == Place(gate_up, 96, 192)


def test_all_experts_in_one_tensor_are_cut_apart() -> None:
    config = replace(CONFIG, mlp_bias=False, **MIXTURE)
    names, shapes = tensors("gguf", config)
    down = "blk.1.ffn_down_exps.weight"
    places = places_of(shapes | {down: (3, 64, 40)}, names, config, "model")
    assert places["layers.1.experts.2.down"] == Place(down, 128, 192)
    assert places["layers.0.down"] == Place("blk.0.ffn_down.weight", 0, 64)


def test_refuses_what_is_missing_misshapen_or_double() -> None:
    names, shapes = tensors("folder", CONFIG)
    norm = "model.layers.1.self_attn.k_norm.weight"
    with pytest.raises(BadModelFile, match=r"layers\.1\.k_norm"):
        places_of({name: shapes[name] for name in shapes if name != norm}, names, CONFIG, "model")
    with pytest.raises(BadModelFile, match=r"got shape \[64, 128\], expected \[128, 64\]"):
        places_of(shapes | {"model.layers.0.self_attn.q_proj.weight": (64, 128)}, names, CONFIG, "model")
    with pytest.raises(BadModelFile, match=f"and {len(list(parts_of(CONFIG))) - 3} more"):
        places_of({}, names, CONFIG, "model")
    double = {"model.layers.0.self_attn.qkv_proj.weight": (256, 64)}
    with pytest.raises(BadModelFile, match=r"got layers\.0\.\w in .* and .*, expected one"):
        places_of(shapes | double, names, CONFIG, "model")


def test_refuses_a_tensor_without_a_place() -> None:
    names, shapes = tensors("folder", CONFIG)
    with pytest.raises(UnsupportedModel, match="a, b, c and 1 more"):
        places_of(shapes | dict.fromkeys("dcba", (1,)), names, CONFIG, "model")
    norm = {"model.layers.0.post_feedforward_layernorm.weight": (64,)}  # a known name, of another family
    with pytest.raises(UnsupportedModel, match="post_feedforward_layernorm"):
        places_of(shapes | norm, names, CONFIG, "model")
