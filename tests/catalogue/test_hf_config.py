import json

import pytest
import transformers

from tests import tiny
from thermoscope.catalogue.config import ModelConfig, RopeScaling
from thermoscope.catalogue.hf_config import FAMILIES, read_hf
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


def changed(base, **fields):
    """The dict with fields replaced, or left out where None."""
    return {key: value for key, value in (base | fields).items() if value is not None}


def test_a_config_of_transformers_4_is_read_whole():
    assert read_hf(SMOLLM2) == ModelConfig(
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
    config = read_hf(SMOLLM2)
    assert config.parameters == 134_515_008
    assert config.kv_values_per_token == 2 * 30 * 3 * 64


def test_transformers_4_and_5_say_the_same_in_different_places():
    four = SMOLLM2 | {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
    five = changed(SMOLLM2, rope_theta=None) | {
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}
    }
    older = SMOLLM2 | {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **LLAMA3}}
    expected = RopeScaling("llama3", factor=32.0, low=1.0, high=4.0, original_context=8192)
    assert read_hf(four).rope_scaling == expected
    assert read_hf(four) == read_hf(five) == read_hf(older)
    assert read_hf(five).rope_theta == 500000.0


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_what_transformers_writes_today_is_read_as_the_network_that_it_builds(kind, tmp_path):
    theirs = tiny.CONFIGS[kind]()
    theirs.save_pretrained(tmp_path)
    config = read_hf(json.loads((tmp_path / "config.json").read_text()))
    network = transformers.AutoModelForCausalLM.from_config(theirs)
    weights = dict(network.named_parameters())
    first = "model.layers.0.self_attn."
    assert config.parameters == sum(weight.numel() for weight in weights.values())
    assert config.tied == ("lm_head.weight" not in weights)
    if kind.startswith(("gpt2", "phi3")):  # which write Q, K and V as one
        return
    assert config.qkv_bias == (first + "q_proj.bias" in weights)
    assert config.output_bias == (first + "o_proj.bias" in weights)
    assert config.qk_norm == (first + "q_norm.weight" in weights)
    assert config.head_dim * config.heads == weights[first + "q_proj.weight"].shape[0]
    assert config.head_dim * config.kv_heads == weights[first + "k_proj.weight"].shape[0]


def test_heads_have_the_width_that_the_family_or_the_config_says():
    assert read_hf(changed(SMOLLM2, head_dim=80)).head_dim == 80
    assert read_hf(SMOLLM2).head_dim == 576 // 9
    assert read_hf(SMOLLM2 | {"model_type": "qwen3"}).head_dim == 128
    assert read_hf(changed(SMOLLM2, num_key_value_heads=None)).kv_heads == 9


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
    config = read_hf(SMOLLM2 | fields)
    assert config.window == window
    assert list(config.windowed) == windowed


def test_biases_are_where_the_family_or_the_config_puts_them():
    plain, qwen = read_hf(SMOLLM2), read_hf(SMOLLM2 | {"model_type": "qwen2"})
    every = read_hf(SMOLLM2 | {"attention_bias": True, "mlp_bias": True})
    assert (plain.qkv_bias, plain.output_bias, plain.mlp_bias) == (False, False, False)
    assert (qwen.qkv_bias, qwen.output_bias, qwen.mlp_bias) == (True, False, False)
    assert (every.qkv_bias, every.output_bias, every.mlp_bias) == (True, True, True)


# config.json of released models, as their makers wrote them, and the parameters that their cards name
GEMMA3_1B = {
    "model_type": "gemma3_text",
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "intermediate_size": 6912,
    "max_position_embeddings": 32768,
    "num_attention_heads": 4,
    "num_hidden_layers": 26,
    "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size": 262144,
}
PHI3_MINI = {
    "model_type": "phi3",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"type": "su", "short_factor": [1.05] * 48, "long_factor": [2.0] * 48},
    "rope_theta": 10000.0,
    "sliding_window": 262144,
    "tie_word_embeddings": False,
    "vocab_size": 32064,
}
GPT2 = {
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-05,
    "n_ctx": 1024,
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "vocab_size": 32000,
}
QWEN3_30B = {
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
OLMO2_7B = {
    "model_type": "olmo2",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-06,
    "rope_theta": 500000,
    "tie_word_embeddings": False,
    "vocab_size": 100352,
}


@pytest.mark.parametrize(
    ("released", "parameters"),
    [
        (GEMMA3_1B, 999_885_952),
        (PHI3_MINI, 3_821_079_552),
        (GPT2, 124_439_808),
        (MIXTRAL, 46_702_792_704),
        (QWEN3_30B, 30_532_122_624),
        (OLMO2_7B, 7_298_617_344),
    ],
    ids=["gemma-3-1b", "phi-3-mini", "gpt2", "mixtral-8x7b", "qwen3-30b-a3b", "olmo-2-7b"],
)
def test_released_models_have_as_many_parameters_as_their_cards_say(released, parameters):
    assert read_hf(released).parameters == parameters


def test_gemmas_older_words_mean_the_same():
    config = read_hf(GEMMA3_1B)
    assert config.windowed == tuple(i % 6 != 5 for i in range(26))
    assert (config.rope_theta, config.window_rope_theta, config.window) == (1e6, 1e4, 512)
    assert config.attention_scale == 1 / 16
    assert config.embedding_scale == pytest.approx(1152**0.5)
    assert config.tied


def test_longrope_keeps_to_the_context_where_its_short_factors_hold():
    config = read_hf(PHI3_MINI)
    assert config.context == 4096
    assert config.rope_scaling.factors == (1.05,) * 48
    assert config.rope_scaling.magnitude == pytest.approx((1 + 5 / 12) ** 0.5)  # log 32 / log 4096
    assert read_hf(changed(PHI3_MINI, rope_scaling=None)).context == 131072


@pytest.mark.parametrize(
    ("released", "fields", "message"),
    [
        (GEMMA3_1B, {"final_logit_softcapping": 30.0}, "final_logit_softcapping: got 30.0, expected none"),
        (GEMMA3_1B, {"use_bidirectional_attention": True}, "use_bidirectional_attention: got True"),
        (GEMMA3_1B, {"rope_scaling": {"rope_type": "yarn"}}, "rope: got scaling 'yarn'"),
        (
            GEMMA3_1B,
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}},
            "rope of windowed layers: got scaling 'linear', expected 'default'",
        ),
        (PHI3_MINI, {"rope_scaling": {"type": "yarn"}}, "'yarn', expected 'default' or 'longrope'"),
        (GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: got True"),
        (GPT2, {"activation_function": "relu"}, "activation_function: got 'relu', expected one of silu"),
    ],
)
def test_what_the_decoder_has_not_is_refused_by_name(released, fields, message):
    with pytest.raises(UnsupportedModel, match=message):
        read_hf(released | fields)


def test_a_mixture_that_cannot_be_is_refused():
    with pytest.raises(BadModelFile, match="got 9 experts a token, expected at most 8"):
        read_hf(MIXTRAL | {"num_experts_per_tok": 9})
    with pytest.raises(BadModelFile, match="got no 'num_experts_per_tok'"):
        read_hf(changed(MIXTRAL, num_experts_per_tok=None))


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
        read_hf(changed(SMOLLM2, **{field: None}))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"model_type": "mamba"}, UnsupportedModel, "architecture: got 'mamba', expected one of llama, "),
        ({"model_type": ["llama"]}, UnsupportedModel, r"architecture: got \['llama'\]"),
        ({"hidden_act": "relu"}, UnsupportedModel, "hidden_act: got 'relu', expected one of silu, gelu"),
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
        read_hf(SMOLLM2 | fields)
    assert "\n" not in str(caught.value)


def test_no_architecture_at_all_is_refused_with_the_families():
    with pytest.raises(UnsupportedModel, match=f"got None, expected one of {', '.join(FAMILIES)}"):
        read_hf({})
