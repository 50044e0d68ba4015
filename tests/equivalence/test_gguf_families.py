"""Every family that llama.cpp knows, read from a GGUF file, against the network that it was made of.

The names of tensors and keys are those of the `gguf` package; what llama.cpp's converter does to weights is
done here.
"""

import math
import re

import gguf
import pytest
import torch
from gguf.constants import MODEL_ARCH, RopeScalingType
from safetensors.torch import load_file

from tests import tiny
from thermoscope.engine.replay import replay
from thermoscope.models.tokenizer import BYTES

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
EXPERT = re.compile(r"(.*\.experts)\.\d+\.(.*)")
ARCHS = {
    "llama": MODEL_ARCH.LLAMA,
    "mixtral": MODEL_ARCH.LLAMA,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
    "qwen3-moe": MODEL_ARCH.QWEN3MOE,
    "olmo2": MODEL_ARCH.OLMO2,
    "gpt2": MODEL_ARCH.GPT2,
    "phi3": MODEL_ARCH.PHI3,
    "phi3-longrope": MODEL_ARCH.PHI3,
    "gemma3": MODEL_ARCH.GEMMA3,
}
CHANGED = {  # llama.cpp has no key for these, and takes them to be so
    "gemma3": {"query_pre_attn_scalar": 32},
    "qwen3-moe": {"mlp_only_layers": [], "norm_topk_prob": True},
}


def converted(state, config, arch):
    """A folder's weights in llama.cpp's names and layout."""
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    experts = {}
    for name, weight in state.items():
        if match := EXPERT.fullmatch(name):
            experts.setdefault(f"{match[1]}.{match[2]}", []).append(weight)
            continue
        if arch is MODEL_ARCH.GEMMA3 and name.endswith("norm.weight"):
            weight = weight + 1
        if arch is MODEL_ARCH.GPT2 and name.endswith(TRANSPOSED):
            weight = weight.T
        if arch is MODEL_ARCH.LLAMA and (which := re.search(r"\.([qk])_proj\.", name)):
            heads = config.num_attention_heads if which[1] == "q" else config.num_key_value_heads
            weight = weight.view(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
        yield names.get_name(name, (".weight", ".bias")), weight
    for name, weights in experts.items():
        yield names.get_name(name, (".weight",)), torch.stack(weights)


def write_shape(writer, config, arch):
    """A config's fields as llama.cpp's converter writes them."""
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if arch is MODEL_ARCH.GPT2:
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    rope = config.rope_parameters.get("full_attention", config.rope_parameters)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    if width := getattr(config, "head_dim", None):
        writer.add_key_length(width)
    if experts := getattr(config, "num_local_experts", None):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if arch is MODEL_ARCH.QWEN3MOE:
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if arch is MODEL_ARCH.PHI3:
        width = config.hidden_size // config.num_attention_heads
        writer.add_rope_dimension_count(int(width * rope["partial_rotary_factor"]))
        writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
        writer.add_sliding_window(config.sliding_window)
        if rope["rope_type"] == "longrope":
            longest, original = config.max_position_embeddings, config.original_max_position_embeddings
            magnitude = math.sqrt(1 + math.log(longest / original) / math.log(original))
            writer.add_rope_scaling_attn_factors(magnitude)
            for kind in ("short", "long"):
                factors = torch.tensor(rope[f"{kind}_factor"])
                writer.add_tensor(f"rope_factors_{kind}.weight", factors.numpy())
    if arch is MODEL_ARCH.GEMMA3:
        writer.add_sliding_window(config.sliding_window)
        writer.add_sliding_window_pattern(2)
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])


def write_tokenizer(writer):
    words = ["<s>", "</s>", *BYTES][: tiny.VOCAB - 1]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*words, words[2] + words[3]])
    writer.add_token_types([3, 3] + [1] * (tiny.VOCAB - 2))
    writer.add_token_merges([f"{words[2]} {words[3]}"])


@pytest.mark.parametrize("kind", ARCHS)
def test_logits_agree_with_the_network(kind, tmp_path):
    network = tiny.reference(kind, **CHANGED.get(kind, {}))
    network.save_pretrained(tmp_path)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", gguf.MODEL_ARCH_NAMES[ARCHS[kind]])
    write_shape(writer, network.config, ARCHS[kind])
    write_tokenizer(writer)
    for name, weight in converted(load_file(tmp_path / "model.safetensors"), network.config, ARCHS[kind]):
        writer.add_tensor(name, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = tiny.ours(tmp_path / "model.gguf")
    assert model.config.parameters == network.num_parameters()
    tokens = torch.randint(2, tiny.VOCAB, (80,), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = network(tokens[None]).logits[0]
    torch.testing.assert_close(
        replay(model, tokens.tolist(), logits=True).logits, expected, rtol=0, atol=1e-4
    )
