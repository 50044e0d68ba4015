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
}


def reference(kind: str, **more) -> transformers.PreTrainedModel:
    """A model of a family with random weights, large enough that a wrong sign or order shows."""
    config = CONFIGS[kind](**more)
    config._attn_implementation = "eager"
    torch.manual_seed(20261124)
    network = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.2 if "norm" in name else 0.15)
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
