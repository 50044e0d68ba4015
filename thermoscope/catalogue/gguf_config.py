"""The shape of a decoder from a GGUF header, whose keys and tensor names are llama.cpp's; no torch."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from thermoscope.catalogue.config import ModelConfig, RopeScaling
from thermoscope.errors import BadModelFile, UnsupportedModel

FAMILIES = {  # general.architecture -> family
    **{name: name for name in ("llama", "mistral", "qwen2", "qwen3", "gemma3", "phi3", "gpt2", "olmo2")},
    "qwen3moe": "qwen3_moe",
}
GEMMA3_27B_LAYERS = 62  # the one size whose scores are scaled otherwise; llama.cpp tells it so, too
Shapes = Mapping[str, tuple[int, ...]]


def read_gguf(metadata: Mapping[str, Any], tensors: Shapes) -> ModelConfig:
    """Read a header: its key-value metadata, and each tensor's shape in rows-first order.

    **Errors:** `UnsupportedModel` for an architecture that the decoder is not; `BadModelFile` for a key
    that is missing or out of range.
    """
    arch = metadata.get("general.architecture")
    if not isinstance(arch, str) or arch not in FAMILIES:
        raise UnsupportedModel(f"architecture: got {arch!r}, expected one of {', '.join(FAMILIES)}.")
    family = FAMILIES[arch]
    keys = {key.removeprefix(f"{arch}."): metadata[key] for key in metadata}
    need = _needed(keys)
    heads, hidden, layers = need("attention.head_count"), need("embedding_length"), need("block_count")
    if "token_embd.weight" not in tensors:
        raise BadModelFile("GGUF: got no tensor 'token_embd.weight', expected one in every model.")
    head_dim = keys.get("attention.key_length", hidden // heads)
    q_norm = tensors.get("blk.0.attn_q_norm.weight")
    experts = keys.get("expert_count", 0)
    gpt2 = family == "gpt2"
    return ModelConfig(
        family="mixtral" if family == "llama" and experts else family,
        vocab=tensors["token_embd.weight"][0],
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=keys.get("attention.head_count_kv", heads),
        head_dim=head_dim,
        ffn=need("feed_forward_length"),
        norm_eps=float(need(f"attention.layer_norm_{'' if gpt2 else 'rms_'}epsilon")),
        learned_positions=gpt2,
        norm="layer" if gpt2 else "rms",
        gated=not gpt2,
        activation="gelu_tanh" if family in ("gpt2", "gemma3") else "silu",
        pre_norm=family != "olmo2",
        post_norm=family in ("gemma3", "olmo2"),
        qk_norm=q_norm is not None,
        qk_norm_whole=q_norm is not None and q_norm != (head_dim,),
        qkv_bias="blk.0.attn_q.bias" in tensors or "blk.0.attn_qkv.bias" in tensors,
        output_bias="blk.0.attn_output.bias" in tensors,
        mlp_bias="blk.0.ffn_down.bias" in tensors,
        tied="output.weight" not in tensors,
        **_rope(keys, need, tensors, head_dim),
        **_windows(keys, family, layers),
        **(_experts(need, experts, family, layers) if experts else {}),
        **(_gemma3(hidden, heads, head_dim, layers) if family == "gemma3" else {}),
    )


def _rope(
    keys: Mapping[str, Any], need: Callable[[str], Any], tensors: Shapes, head_dim: int
) -> dict[str, Any]:
    scaling, context = None, need("context_length")
    turning = keys.get("rope.dimension_count") if keys["general.architecture"] == "phi3" else None
    kind = keys.get("rope.scaling.type")
    if "rope_factors_short.weight" in tensors:  # longrope; the factors come with the weights
        scaling = RopeScaling("longrope", magnitude=float(keys.get("rope.scaling.attn_factor", 1.0)))
        context = min(context, keys.get("rope.scaling.original_context_length", context))
    elif kind == "linear":
        scaling = RopeScaling("linear", float(need("rope.scaling.factor")))
    elif kind not in (None, "none"):
        raise UnsupportedModel(f"GGUF: rope.scaling.type: got {kind!r}, expected 'none' or 'linear'.")
    return {
        "context": context,
        "rope_theta": float(keys.get("rope.freq_base", 10000.0)),
        "rope_scaling": scaling,
        "rotary_dim": None if turning == head_dim else turning,
    }


def _windows(keys: Mapping[str, Any], family: str, layers: int) -> dict[str, Any]:
    window = keys.get("attention.sliding_window")
    if not window:
        return {}
    if family != "gemma3":
        return {"window": window, "windowed": (True,) * layers}
    pattern = keys.get("attention.sliding_window_pattern", 6)
    windowed = pattern if isinstance(pattern, list) else [bool((i + 1) % pattern) for i in range(layers)]
    theta = float(keys.get("rope.freq_base_swa", 10000.0))
    return {"window": window, "windowed": tuple(map(bool, windowed)), "window_rope_theta": theta}


def _experts(need: Callable[[str], Any], experts: int, family: str, layers: int) -> dict[str, Any]:
    return {
        "experts": experts,
        "experts_per_token": need("expert_used_count"),
        "expert_ffn": need("expert_feed_forward_length" if family == "qwen3_moe" else "feed_forward_length"),
        "experts_normed": True,
        "sparse": (True,) * layers,
    }


def _gemma3(hidden: int, heads: int, head_dim: int, layers: int) -> dict[str, Any]:
    width = hidden // heads if layers == GEMMA3_27B_LAYERS else head_dim
    return {"embedding_scale": math.sqrt(hidden), "attention_scale": 1 / math.sqrt(width)}


def _needed(keys: Mapping[str, Any]) -> Callable[[str], Any]:
    def need(key: str) -> Any:
        if keys.get(key) is None:
            raise BadModelFile(f"GGUF header: got no {key!r}, expected one in every decoder of its family.")
        return keys[key]

    return need
