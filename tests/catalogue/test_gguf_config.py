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


def of(arch, **more):
    """The same header of another architecture."""
    fields = {key.replace("llama.", f"{arch}."): value for key, value in GGUF.items()}
    return fields | {"general.architecture": arch} | {f"{arch}.{key}": value for key, value in more.items()}


def test_gemmas_windows_bases_and_scales():
    config = read_gguf(of("gemma3", **{"attention.sliding_window": 512, "block_count": 12}), TENSORS)
    assert config.windowed == ((True,) * 5 + (False,)) * 2
    assert (config.window, config.window_rope_theta, config.rope_theta) == (512, 1e4, 1e5)
    assert (config.embedding_scale, config.attention_scale) == (8.0, 1 / 4)
    named = {"attention.sliding_window": 512, "attention.sliding_window_pattern": [False, True]}
    assert read_gguf(of("gemma3", **named), TENSORS).windowed == (False, True)


def test_the_one_gemma_whose_scores_are_scaled_by_its_width():
    config = read_gguf(of("gemma3", **{"block_count": 62, "attention.key_length": 4}), TENSORS)
    assert config.attention_scale == 1 / 4  # 64 / 4 heads are 16 wide


def test_experts_make_a_llama_a_mixtral():
    config = read_gguf(of("llama", expert_count=8, expert_used_count=2), TENSORS)
    assert (config.family, config.experts, config.experts_per_token, config.expert_ffn) == (
        "mixtral",
        8,
        2,
        96,
    )
    assert config.experts_normed
    assert config.sparse == (True, True)
    with pytest.raises(BadModelFile, match="got no 'expert_used_count'"):
        read_gguf(of("llama", expert_count=8), TENSORS)


def test_norms_of_all_heads_at_once_are_told_by_their_length():
    one, whole = ({"blk.0.attn_q_norm.weight": (width,)} for width in (16, 64))
    assert not read_gguf(of("qwen3"), TENSORS | one).qk_norm_whole
    assert read_gguf(of("olmo2"), TENSORS | whole).qk_norm_whole


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
