"""Against transformers: it builds each family's network without weights, and counts."""

import pytest
import torch
import transformers

from tests.tiny import CONFIGS, FOREIGN, SHAPE
from thermoscope.catalogue.any_config import read_any
from thermoscope.catalogue.architecture import Architecture
from thermoscope.catalogue.hf_config import read_hf
from thermoscope.errors import BadModelFile, UnsupportedModel

MOE = {"num_experts": 6, "num_experts_per_tok": 2}
SMALL = {key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}
FALCON = {key: value for key, value in SMALL.items() if key != "intermediate_size"}
OLD = {"vocab_size": 96, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256}
MLA = {
    **SHAPE | {"num_key_value_heads": 4},
    **{"kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 12, "v_head_dim": 10},
    **{"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    **{"n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1},
}
MORE = {
    "gemma": lambda: transformers.GemmaConfig(**SHAPE, head_dim=24, pad_token_id=None),
    "granite": lambda: transformers.GraniteConfig(**SHAPE, attention_bias=True, pad_token_id=None),
    "granitemoe": lambda: transformers.GraniteMoeConfig(**SHAPE, num_local_experts=4, pad_token_id=None),
    "smollm3": lambda: transformers.SmolLM3Config(**SHAPE, pad_token_id=None),
    "olmo": lambda: transformers.OlmoConfig(**SHAPE, pad_token_id=None),
    "olmo3": lambda: transformers.Olmo3Config(**SHAPE, sliding_window=16, pad_token_id=None),
    "olmoe": lambda: transformers.OlmoeConfig(**SHAPE, **MOE, pad_token_id=None),
    "gpt-oss": lambda: transformers.GptOssConfig(
        **SHAPE, num_local_experts=4, num_experts_per_tok=2, sliding_window=16, head_dim=16
    ),
    "glm": lambda: transformers.GlmConfig(**SHAPE, attention_bias=True, head_dim=16, pad_token_id=None),
    "glm4": lambda: transformers.Glm4Config(**SHAPE, attention_bias=True, head_dim=16, pad_token_id=None),
    "phimoe": lambda: transformers.PhimoeConfig(
        **SHAPE, num_local_experts=4, num_experts_per_tok=2, attention_bias=True, lm_head_bias=True
    ),
    "phi": lambda: transformers.PhiConfig(**SHAPE | {"num_key_value_heads": 4}),
    "gpt-neo": lambda: transformers.GPTNeoConfig(
        vocab_size=96, hidden_size=64, num_layers=4, num_heads=4, attention_types=[[["global", "local"], 2]]
    ),
    "gptj": lambda: transformers.GPTJConfig(**OLD, rotary_dim=8),
    "gpt-bigcode": lambda: transformers.GPTBigCodeConfig(**OLD),
    "falcon-7b": lambda: transformers.FalconConfig(**FALCON, bias=False),
    "falcon-rw": lambda: transformers.FalconConfig(
        **FALCON, bias=True, alibi=True, multi_query=False, parallel_attn=False
    ),
    "falcon-40b": lambda: transformers.FalconConfig(
        **FALCON, bias=False, new_decoder_architecture=True, num_kv_heads=2
    ),
    "opt": lambda: transformers.OPTConfig(**SMALL, ffn_dim=96, word_embed_proj_dim=64, pad_token_id=None),
    "bloom": lambda: transformers.BloomConfig(vocab_size=96, hidden_size=64, n_layer=3, n_head=4),
    "mpt": lambda: transformers.MptConfig(vocab_size=96, d_model=64, n_layers=3, n_heads=4, max_seq_len=256),
    "stablelm-biased": lambda: transformers.StableLmConfig(**SHAPE, use_qkv_bias=True),
    "cohere": lambda: transformers.CohereConfig(**SHAPE, use_qk_norm=True, pad_token_id=None),
    "dbrx": lambda: transformers.DbrxConfig(
        **{"vocab_size": 96, "d_model": 64, "n_layers": 3, "n_heads": 4, "max_seq_len": 256},
        attn_config={"kv_n_heads": 2, "rope_theta": 10000.0},
        ffn_config={"hidden_size": 64, "ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2},
    ),
    "deepseek-v2": lambda: transformers.DeepseekV2Config(**MLA, q_lora_rank=None),
    "deepseek-v3": lambda: transformers.DeepseekV3Config(**MLA, q_lora_rank=20),
    "llama4": lambda: transformers.Llama4TextConfig(
        **SHAPE | {"num_hidden_layers": 4, "head_dim": 16},
        **{"num_local_experts": 4, "intermediate_size_mlp": 112, "interleave_moe_layer_step": 2},
    ),
}
KINDS = CONFIGS | FOREIGN | MORE


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_transformers(kind):
    config = KINDS[kind]()
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    count = sum(weight.numel() for weight in network.parameters())
    count += sum(b.numel() for name, b in network.named_buffers() if "e_score_correction_bias" in name)
    assert read_any(config.to_dict(), kind).parameters == count


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_the_engine_reads_is_the_same(kind):
    fields = CONFIGS[kind]().to_dict()
    config = read_hf(fields)
    ours, read = Architecture.of(config, kind), read_any(fields, kind)
    assert ours.parameters == read.parameters == config.parameters
    assert ours.active_parameters == read.active_parameters
    assert ours.kv_values * ours.layers == config.kv_values_per_token == read.kv_values * read.layers
    assert (ours.norm_float32, ours.fused_qkv) == (read.norm_float32, read.fused_qkv)
    for layer in range(config.layers):
        assert ours.window_at(layer) == read.window_at(layer)
        assert ours.matrices(layer) == read.matrices(layer)


def network(kind):
    return transformers.AutoModelForCausalLM.from_config(KINDS[kind]()).bfloat16()


@pytest.mark.parametrize("kind", KINDS)
def test_norms_work_in_float32_to_their_end_where_transformers_do(kind):
    """Then autograd saves nothing of their input's size in 16 bits, and else it does."""
    shape, saved = read_any(KINDS[kind]().to_dict(), kind), []
    norm = next(
        each
        for each in network(kind).modules()
        if "Norm" in type(each).__name__
        and not [*each.children()]
        and (not shape.norm_weight or any(weight.shape == (shape.hidden,) for weight in each.parameters()))
    )
    rows = torch.randn(3, shape.hidden, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda each: saved.append(each), lambda each: each):
        norm(rows.clone())
    assert shape.norm_float32 != any((each.shape, each.dtype) == (rows.shape, rows.dtype) for each in saved)


@pytest.mark.parametrize("kind", KINDS)
def test_q_k_and_v_are_one_matrix_where_transformers_have_one(kind):
    names = {name.rpartition(".")[2] for name, _ in network(kind).named_modules()}
    fused = not names.isdisjoint(("c_attn", "query_key_value", "Wqkv", "qkv_proj"))
    copied = kind.startswith("falcon")  # out of the one product, V too
    assert read_any(KINDS[kind]().to_dict(), kind).fused_qkv == (fused and not copied)


def test_windows_and_experts_stand_in_the_layers_that_have_them():
    llama4 = read_any(MORE["llama4"]().to_dict(), "llama4")
    assert [llama4.window_at(i) for i in range(4)] == [8192, 8192, 8192, None]
    assert [llama4.experts.at(i) for i in range(4)] == [False, True, False, True]
    neo = read_any(MORE["gpt-neo"]().to_dict(), "neo")
    assert [neo.window_at(i) for i in range(4)] == [None, 256, None, 256]
    cohere = read_any(FOREIGN["cohere2"]().to_dict(), "cohere2")
    assert [cohere.window_at(i) for i in range(3)] == [16, None, 16]
    deepseek = read_any(MORE["deepseek-v3"]().to_dict(), "v3")
    assert [deepseek.experts.at(i) for i in range(3)] == [False, True, True]
    assert deepseek.kv_values == 16 + 8


def test_a_file_with_a_text_model_inside_is_read_and_said():
    config = CONFIGS["gemma3"]().to_dict()
    read = read_any({"model_type": "gemma3", "text_config": config, "vision_config": {}}, "both")
    assert read.parameters == read_any(config, "text").parameters
    assert "text model alone" in read.assumptions[0]


def test_a_family_without_a_place_is_read_like_llama_and_said():
    config = CONFIGS["llama"]().to_dict() | {"model_type": "new", "architectures": ["NewForCausalLM"]}
    read = read_any(config, "new")
    assert read.parameters == read_any(CONFIGS["llama"]().to_dict(), "old").parameters
    assert "'new' is not known here" in read.assumptions[0]


def test_what_a_file_leaves_to_custom_is_said():
    config = {"model_type": "gpt2", "vocab_size": 50257, **{key: OLD[key] for key in OLD if key[0] == "n"}}
    assert read_any(config, "gpt2").assumptions == (
        "config.json does not say tie_word_embeddings: True, as usual for gpt2",
        "config.json does not say ffn_times: 4, as usual for gpt2",
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model_type": None}, BadModelFile, "got no 'model_type'"),
        ({"hidden_size": None}, BadModelFile, "got no 'hidden_size' or 'n_embd' or"),
        ({"intermediate_size": None}, BadModelFile, "got no 'intermediate_size_mlp' or 'intermediate_size'"),
        ({"num_key_value_heads": 3}, BadModelFile, "got 4 heads on 3 KV heads"),
        ({"hidden_size": "64"}, BadModelFile, "hidden"),
        ({"num_hidden_layers": 0}, BadModelFile, "layers: got 0, expected a whole number"),
        ({"kv_lora_rank": 8}, BadModelFile, "got no 'qk_rope_head_dim'"),
        ({"num_local_experts": 2, "num_experts_per_tok": 3}, BadModelFile, "active: got 3"),
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, UnsupportedModel, "'bert'"),
        ({"is_encoder_decoder": True}, UnsupportedModel, "an encoder"),
        ({"layer_types": ["conv", "full_attention", "conv"]}, UnsupportedModel, "neither attention nor MLP"),
        ({"mamba_d_state": 16}, UnsupportedModel, "neither attention nor MLP"),
    ],
)
def test_what_cannot_be_read_is_one_line(change, error, message):
    with pytest.raises(error, match=message) as caught:
        read_any(CONFIGS["llama"]().to_dict() | change, "broken")
    assert "\n" not in str(caught.value)
