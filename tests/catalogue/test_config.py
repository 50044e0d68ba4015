import json

import pytest
import transformers

from tests import tiny
from thermoscope.catalogue.config import FAMILIES, ModelConfig, RopeScaling
from thermoscope.errors import BadModelFile, UnsupportedModel

# SmolLM2-135M-Instruct's config.json as transformers 4 wrote it
SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "vocab_size": 49152,
}
LLAMA3 = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}
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


def test_a_config_of_transformers_4_is_read_whole():
    assert ModelConfig.from_hf(SMOLLM2) == ModelConfig(
        family="llama",
        vocab=49152,
        hidden=576,
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        ffn=1536,
        context=8192,
        norm_eps=1e-5,
        rope_theta=100000.0,
        tied=True,
    )


def test_its_parameters_and_cache_are_those_of_the_model():
    config = ModelConfig.from_hf(SMOLLM2)
    assert config.parameters == 134_515_008
    assert config.kv_values_per_token == 2 * 30 * 3 * 64


def test_transformers_4_and_5_say_the_same_in_different_places():
    four = SMOLLM2 | {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
    five = changed(SMOLLM2, rope_theta=None) | {
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}
    }
    older = SMOLLM2 | {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **LLAMA3}}
    expected = RopeScaling("llama3", factor=32.0, low=1.0, high=4.0, original_context=8192)
    assert ModelConfig.from_hf(four).rope_scaling == expected
    assert ModelConfig.from_hf(four) == ModelConfig.from_hf(five) == ModelConfig.from_hf(older)
    assert ModelConfig.from_hf(five).rope_theta == 500000.0


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_what_transformers_writes_today_is_read_as_the_network_that_it_builds(kind, tmp_path):
    theirs = tiny.CONFIGS[kind]()
    theirs.save_pretrained(tmp_path)
    config = ModelConfig.from_hf(json.loads((tmp_path / "config.json").read_text()))
    network = transformers.AutoModelForCausalLM.from_config(theirs)
    weights = dict(network.named_parameters())
    first = "model.layers.0.self_attn."
    assert config.parameters == sum(weight.numel() for weight in weights.values())
    assert config.qkv_bias == (first + "q_proj.bias" in weights)
    assert config.output_bias == (first + "o_proj.bias" in weights)
    assert config.qk_norm == (first + "q_norm.weight" in weights)
    assert config.tied == ("lm_head.weight" not in weights)
    assert config.head_dim * config.heads == weights[first + "q_proj.weight"].shape[0]
    assert config.head_dim * config.kv_heads == weights[first + "k_proj.weight"].shape[0]


def test_heads_have_the_width_that_the_family_or_the_config_says():
    assert ModelConfig.from_hf(changed(SMOLLM2, head_dim=80)).head_dim == 80
    assert ModelConfig.from_hf(SMOLLM2).head_dim == 576 // 9
    assert ModelConfig.from_hf(SMOLLM2 | {"model_type": "qwen3"}).head_dim == 128
    assert ModelConfig.from_hf(changed(SMOLLM2, num_key_value_heads=None)).kv_heads == 9


@pytest.mark.parametrize(
    ("fields", "window", "windowed"),
    [
        ({"model_type": "mistral", "sliding_window": 4096}, 4096, [True] * 30),
        ({"model_type": "mistral", "sliding_window": None}, None, []),
        ({"model_type": "llama", "sliding_window": 4096}, None, []),
        ({"model_type": "qwen2", "sliding_window": 99}, None, []),
        ({"model_type": "qwen2", "sliding_window": 99, "use_sliding_window": False}, None, []),
        (
            {
                "model_type": "qwen2",
                "sliding_window": 99,
                "use_sliding_window": True,
                "max_window_layers": 28,
            },
            99,
            [False] * 28 + [True] * 2,
        ),
        (
            {
                "model_type": "qwen3",
                "sliding_window": 99,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention"] * 15,
            },
            99,
            [True, False] * 15,
        ),
    ],
)
def test_windows_are_of_the_layers_that_the_family_gives_them(fields, window, windowed):
    config = ModelConfig.from_hf(SMOLLM2 | fields)
    assert config.window == window
    assert list(config.windowed) == windowed


def test_biases_are_where_the_family_or_the_config_puts_them():
    plain, qwen = ModelConfig.from_hf(SMOLLM2), ModelConfig.from_hf(SMOLLM2 | {"model_type": "qwen2"})
    every = ModelConfig.from_hf(SMOLLM2 | {"attention_bias": True, "mlp_bias": True})
    assert (plain.qkv_bias, plain.output_bias, plain.mlp_bias) == (False, False, False)
    assert (qwen.qkv_bias, qwen.output_bias, qwen.mlp_bias) == (True, False, False)
    assert (every.qkv_bias, every.output_bias, every.mlp_bias) == (True, True, True)


NEEDED = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "rms_norm_eps",
    "vocab_size",
)


@pytest.mark.parametrize("field", NEEDED)
def test_a_missing_field_is_named(field):
    with pytest.raises(BadModelFile, match=rf"config\.json: got no '{field}', expected one"):
        ModelConfig.from_hf(changed(SMOLLM2, **{field: None}))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"model_type": "mamba"}, UnsupportedModel, "architecture: got 'mamba', expected one of llama, "),
        ({"model_type": ["llama"]}, UnsupportedModel, r"architecture: got \['llama'\]"),
        ({"hidden_act": "gelu"}, UnsupportedModel, "hidden_act: got 'gelu', expected 'silu'"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
            UnsupportedModel,
            "rope: got scaling 'yarn', expected 'default', 'linear' or 'llama3'",
        ),
        ({"vocab_size": 0}, BadModelFile, "vocab: got 0, expected a whole number, 1 or more"),
        ({"vocab_size": 49152.0}, BadModelFile, "vocab: got 49152.0"),
        ({"intermediate_size": "1536"}, BadModelFile, "ffn: got '1536'"),
        ({"max_position_embeddings": -1}, BadModelFile, "context: got -1"),
        ({"num_key_value_heads": 2}, BadModelFile, "got 9 heads on 2 KV heads, expected a multiple"),
        ({"head_dim": 63}, BadModelFile, "head_dim: got 63, expected an even number"),
        ({"head_dim": -64}, BadModelFile, "head_dim: got -64"),
        ({"num_hidden_layers": 0}, BadModelFile, "layers: got 0"),
    ],
)
def test_a_field_that_is_wrong_is_refused_in_one_line(fields, error, message):
    with pytest.raises(error, match=message) as caught:
        ModelConfig.from_hf(SMOLLM2 | fields)
    assert "\n" not in str(caught.value)


def test_no_architecture_at_all_is_refused_with_the_families():
    with pytest.raises(UnsupportedModel, match=f"got None, expected one of {', '.join(FAMILIES)}"):
        ModelConfig.from_hf({})
    with pytest.raises(UnsupportedModel, match="got None, expected one of"):
        ModelConfig.from_gguf({}, TENSORS)


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
    assert ModelConfig.from_gguf(GGUF, TENSORS) == expected


def test_what_a_gguf_header_leaves_out_has_its_usual_value():
    bare = changed(GGUF, **{"llama.attention.head_count_kv": None, "llama.rope.freq_base": None})
    config = ModelConfig.from_gguf(bare, TENSORS)
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
        (1,),
    )
    config = ModelConfig.from_gguf(GGUF, TENSORS | more)
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
    config = ModelConfig.from_gguf(GGUF | extra, TENSORS)
    assert (config.head_dim, config.window, config.windowed) == (32, 512, (True, True))
    assert config.rope_scaling == RopeScaling("linear", 4.0)
    none = ModelConfig.from_gguf(GGUF | {"llama.rope.scaling.type": "none"}, TENSORS)
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
        ModelConfig.from_gguf(changed(GGUF, **{f"llama.{field}": None}), TENSORS)


@pytest.mark.parametrize(
    ("metadata", "tensors", "error", "message"),
    [
        ({"general.architecture": "gemma3"}, TENSORS, UnsupportedModel, "got 'gemma3'"),
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
        ModelConfig.from_gguf(GGUF | metadata, tensors)
    assert "\n" not in str(caught.value)
