import pytest

from thermoscope.catalogue.config import ModelConfig, RopeScaling
from thermoscope.catalogue.gguf_config import FAMILIES, read_gguf
from thermoscope.errors import BadModelFile, UnsupportedModel

GGUF = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 100000.0,
}
TENSORS = {"token_embd.weight": (96, 64)}


def changed(base, **fields):
    """The dict with fields replaced, or left out where None."""
    return {key: value for key, value in (base | fields).items() if value is not None}


def test_no_architecture_at_all_is_refused_with_the_families():
    with pytest.raises(UnsupportedModel, match=f"got None, expected one of {', '.join(FAMILIES)}"):
        read_gguf({}, TENSORS)


def test_a_gguf_header_is_read_whole():
    expected = ModelConfig(
        family="llama",
        vocab=96,
        hidden=64,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=16,
        ffn=96,
        context=2048,
        norm_eps=1e-5,
        rope_theta=100000.0,
        tied=True,
    )
    assert read_gguf(GGUF, TENSORS) == expected


def test_what_a_gguf_header_leaves_out_has_its_usual_value():
    bare = changed(GGUF, **{"llama.attention.head_count_kv": None, "llama.rope.freq_base": None})
    config = read_gguf(bare, TENSORS)
    assert (config.kv_heads, config.rope_theta, config.rope_scaling, config.window) == (
        4,
        10000.0,
        None,
        None,
    )


def test_a_gguf_models_parts_are_told_from_its_tensors():
    more = dict.fromkeys(
        [
            "output.weight",
            "blk.0.attn_q.bias",
            "blk.0.attn_output.bias",
            "blk.0.ffn_down.bias",
            "blk.0.attn_q_norm.weight",
        ],
        (16,),
    )
    config = read_gguf(GGUF, TENSORS | more)
    assert not config.tied
    assert config.qkv_bias
    assert config.output_bias
    assert config.mlp_bias
    assert config.qk_norm


def test_a_gguf_headers_head_width_window_and_scaling_are_taken():
    extra = {
        "llama.attention.key_length": 32,
        "llama.attention.sliding_window": 512,
        "llama.rope.scaling.type": "linear",
        "llama.rope.scaling.factor": 4.0,
    }
    config = read_gguf(GGUF | extra, TENSORS)
    assert (config.head_dim, config.window, config.windowed) == (32, 512, (True, True))
    assert config.rope_scaling == RopeScaling("linear", 4.0)
    none = read_gguf(GGUF | {"llama.rope.scaling.type": "none"}, TENSORS)
    assert none.rope_scaling is None


@pytest.mark.parametrize(
    "field",
    [
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
    ],
)
def test_a_missing_key_of_a_gguf_header_is_named(field):
    with pytest.raises(BadModelFile, match=rf"GGUF header: got no '{field}'"):
        read_gguf(changed(GGUF, **{f"llama.{field}": None}), TENSORS)


@pytest.mark.parametrize(
    ("metadata", "tensors", "error", "message"),
    [
        ({"general.architecture": "mamba"}, TENSORS, UnsupportedModel, "got 'mamba'"),
        ({}, {}, BadModelFile, "got no tensor 'token_embd.weight'"),
        ({"llama.rope.scaling.type": "yarn"}, TENSORS, UnsupportedModel, "rope.scaling.type: got 'yarn'"),
        ({"llama.rope.scaling.type": "linear"}, TENSORS, BadModelFile, "got no 'rope.scaling.factor'"),
        ({"llama.attention.head_count_kv": [2, 2]}, TENSORS, BadModelFile, r"kv_heads: got \[2, 2\]"),
        ({"llama.attention.head_count_kv": 3}, TENSORS, BadModelFile, "4 heads on 3 KV heads"),
        ({"llama.context_length": 0}, TENSORS, BadModelFile, "context: got 0"),
    ],
)
def test_a_gguf_header_that_is_wrong_is_refused_in_one_line(metadata, tensors, error, message):
    with pytest.raises(error, match=message) as caught:
        read_gguf(GGUF | metadata, tensors)
    assert "\n" not in str(caught.value)
