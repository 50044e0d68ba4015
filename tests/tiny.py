"""Tiny random models, made by `transformers`, saved as a folder, and opened by us."""

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer as Words
from tokenizers import decoders, models, pre_tokenizers

from thermoscope.models import pack
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.model import Model

VOCAB = 96
SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
    "bos_token_id": 0,
}
PHI3 = {"sliding_window": 16, "pad_token_id": None}
CONFIGS = {
    "llama": lambda **more: transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True, **more),
    "llama3": lambda **more: transformers.LlamaConfig(
        **SHAPE,
        attention_bias=True,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        **more,
    ),
    "mistral": lambda **more: transformers.MistralConfig(**SHAPE, sliding_window=16, head_dim=32, **more),
    "qwen2": lambda **more: transformers.Qwen2Config(**SHAPE, **more),
    "qwen2-windowed": lambda **more: transformers.Qwen2Config(
        **SHAPE, use_sliding_window=True, sliding_window=16, max_window_layers=1, **more
    ),
    "qwen3": lambda **more: transformers.Qwen3Config(**SHAPE, head_dim=32, **more),
    "qwen3-moe": lambda **more: transformers.Qwen3MoeConfig(
        **SHAPE,
        head_dim=32,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=40,
        **{"mlp_only_layers": [1]} | more,
    ),
    "qwen3-moe-normed": lambda **more: transformers.Qwen3MoeConfig(
        **SHAPE,
        head_dim=32,
        num_experts=4,
        num_experts_per_tok=3,
        moe_intermediate_size=32,
        decoder_sparse_step=2,
        norm_topk_prob=True,
        use_sliding_window=True,
        sliding_window=16,
        **more,
    ),
    "mixtral": lambda **more: transformers.MixtralConfig(**SHAPE, num_local_experts=4, **more),
    "olmo2": lambda **more: transformers.Olmo2Config(**SHAPE, pad_token_id=None, **more),
    "gpt2": lambda **more: transformers.GPT2Config(
        vocab_size=VOCAB,
        n_embd=64,
        n_layer=3,
        n_head=4,
        n_positions=256,
        eos_token_id=1,
        bos_token_id=0,
        **more,
    ),
    "phi3": lambda **more: transformers.Phi3Config(**SHAPE, **PHI3, partial_rotary_factor=0.5, **more),
    "phi3-longrope": lambda **more: transformers.Phi3Config(
        **SHAPE | {"max_position_embeddings": 512},
        **PHI3,
        original_max_position_embeddings=128,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0 + i / 8 for i in range(8)],
            "long_factor": [2.0 + i for i in range(8)],
        },
        **more,
    ),
    "gemma3": lambda **more: transformers.Gemma3TextConfig(
        **SHAPE,
        head_dim=32,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        **{"query_pre_attn_scalar": 48} | more,
    ),
}
FOREIGN = {  # families that the decoder does not know
    "stablelm": lambda **more: transformers.StableLmConfig(**SHAPE, **more),
    "gpt-neox": lambda **more: transformers.GPTNeoXConfig(
        **{key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}, **more
    ),
    "starcoder2": lambda **more: transformers.Starcoder2Config(**SHAPE, sliding_window=16, **more),
    "cohere2": lambda **more: transformers.Cohere2Config(
        **SHAPE, sliding_window=16, sliding_window_pattern=2, logit_scale=2.0, pad_token_id=None, **more
    ),
    "gemma2": lambda **more: transformers.Gemma2Config(
        **SHAPE, head_dim=24, sliding_window=16, pad_token_id=None, **more
    ),
    "qwen2-moe": lambda **more: transformers.Qwen2MoeConfig(
        **SHAPE, num_experts=4, moe_intermediate_size=32, shared_expert_intermediate_size=32, **more
    ),
}


def reference(kind: str, **more) -> transformers.PreTrainedModel:
    """A model of a family with random weights, large enough that a wrong sign or order shows."""
    config = (CONFIGS | FOREIGN)[kind](**more)
    config._attn_implementation = "eager"
    torch.manual_seed(20261124)
    network = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            norm = "norm" in name or ".ln_" in name
            weight.normal_(1.0 if norm else 0.0, 0.2 if norm else 0.15)
    return network


def save(network: transformers.PreTrainedModel, folder: Path) -> Path:
    """The network as a folder, with a tokenizer whose tokens are single ASCII characters."""
    network.save_pretrained(folder)
    words = {"<s>": 0, "</s>": 1, **{chr(31 + index): index for index in range(2, VOCAB)}}
    tokenizer = Words(models.BPE(words, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    settings = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def ours(folder: Path, precision: str = "fp32") -> Model:
    """The same folder through our loader, without the cache."""
    checkpoint = open_checkpoint(folder)
    decoder = pack.build(checkpoint.config, dict(pack.pack(checkpoint, precision)))
    return Model(checkpoint.name, precision, checkpoint.config, checkpoint.tokenizer, decoder)
