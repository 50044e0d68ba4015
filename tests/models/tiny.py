"""Small GGUF files, written with the `gguf` package's own writer and quantisation."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import quantize

from thermoscope.models.tokenizer import BYTES

HIDDEN, FFN, HEADS, KV_HEADS, LAYERS = 256, 512, 4, 2, 2
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "1 2"]
TOKENS = [*SPECIALS, *BYTES, *(merge.replace(" ", "") for merge in MERGES)]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TOKENIZER: dict[str, Any] = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3] * len(SPECIALS) + [1] * (len(TOKENS) - len(SPECIALS)),
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.chat_template": TEMPLATE,
}
HALVES = {  # where a block keeps its half-precision numbers: random bytes there could be infinite
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q6_K: (208,),
}


def metadata(arch: str = "llama") -> dict[str, Any]:
    return {
        f"{arch}.block_count": LAYERS,
        f"{arch}.context_length": 128,
        f"{arch}.embedding_length": HIDDEN,
        f"{arch}.feed_forward_length": FFN,
        f"{arch}.attention.head_count": HEADS,
        f"{arch}.attention.head_count_kv": KV_HEADS,
        f"{arch}.attention.layer_norm_rms_epsilon": 1e-5,
        **TOKENIZER,
    }


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 weights in llama.cpp's names and layout, embedding tied."""
    random = np.random.default_rng(seed)
    width = HIDDEN // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(TOKENS), HIDDEN),
        "output_norm.weight": (HIDDEN,),
    }
    for i in range(LAYERS):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (HIDDEN,),
            f"blk.{i}.ffn_norm.weight": (HIDDEN,),
            f"blk.{i}.attn_q.weight": (HIDDEN, HIDDEN),
            f"blk.{i}.attn_k.weight": (width, HIDDEN),
            f"blk.{i}.attn_v.weight": (width, HIDDEN),
            f"blk.{i}.attn_output.weight": (HIDDEN, HIDDEN),
            f"blk.{i}.ffn_gate.weight": (FFN, HIDDEN),
            f"blk.{i}.ffn_up.weight": (FFN, HIDDEN),
            f"blk.{i}.ffn_down.weight": (HIDDEN, FFN),
        }
    return {name: random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def packed(values: np.ndarray, kind: Kind, seed: int = 0) -> np.ndarray:
    """The bytes of a tensor: quantised by `gguf`, or random blocks for what it cannot quantise."""
    if kind not in HALVES:
        return quantize(values, kind)
    block, width = GGML_QUANT_SIZES[kind]
    rows, cols = values.shape
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (rows * cols // block, width), np.uint8)
    for at in HALVES[kind]:
        blocks[:, at : at + 2] = random.standard_normal((len(blocks), 1)).astype(np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def write_gguf(
    path: Path,
    *,
    arch: str = "llama",
    kinds: dict[str, Kind] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    **changed: Any,
) -> Path:
    """Write a model; `kinds` quantises tensors by name, `changed` replaces metadata (None leaves it out)."""
    writer = GGUFWriter(path, arch)
    for key, value in (metadata(arch) | changed).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif value is not None:
            writer.add_array(key, value)
    for name, values in (weights() if tensors is None else tensors).items():
        kind = (kinds or {}).get(name)
        if kind is None:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, packed(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
