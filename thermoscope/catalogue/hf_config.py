"""The shape of a decoder from a Hugging Face `config.json`, of transformers 4 or 5; no torch."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from thermoscope.catalogue.config import Activation, ModelConfig, RopeScaling
from thermoscope.errors import BadModelFile, UnsupportedModel

FAMILIES = {  # model_type -> family
    **{name: name for name in ("llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe")},
    **{name: name for name in ("phi3", "gpt2", "olmo2")},
    "gemma3_text": "gemma3",
}
ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
Fields = Mapping[str, Any]


def read_hf(config: Fields) -> ModelConfig:
    """Read a `config.json`.

    **Errors:** `UnsupportedModel` for an architecture that the decoder is not; `BadModelFile` for a field
    that is missing or out of range.
    """
    name = config.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        raise UnsupportedModel(
            f"architecture: got {name!r}, expected one of {', '.join(FAMILIES)}; "
            "others may run through transformers (`pip install 'thermoscope[any]'`)."
        )
    family = FAMILIES[name]
    if family == "gpt2":
        return _gpt2(config)
    usual, own = _usual(config, family), _OWN.get(family)
    return ModelConfig(**(usual | own(config) if own else usual))


def _usual(config: Fields, family: str) -> dict[str, Any]:
    """What the descendants of Llama say in the same words."""
    need = _needed(config)
    hidden, heads, layers = need("hidden_size"), need("num_attention_heads"), need("num_hidden_layers")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta: Any = rope.get("rope_theta", config.get("rope_theta", 1e6 if family == "mixtral" else 1e4))
    bias = bool(config.get("attention_bias", False))
    window = config.get("sliding_window")
    if family in ("llama", "olmo2") or not config.get("use_sliding_window", not family.startswith("qwen")):
        window = None
    kinds = config.get("layer_types")
    full_first = config.get("max_window_layers", 0) if family in ("qwen2", "qwen3") else 0
    windowed = tuple(kinds[i] == "sliding_attention" if kinds else i >= full_first for i in range(layers))
    return {
        "family": family,
        "vocab": need("vocab_size"),
        "hidden": hidden,
        "layers": layers,
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or (128 if family == "qwen3" else hidden // heads),
        "ffn": need("intermediate_size"),
        "context": need("max_position_embeddings"),
        "norm_eps": float(need("rms_norm_eps")),
        "rope_theta": float(theta),
        "rope_scaling": None if family in ("gemma3", "phi3") else _rope_scaling(rope, config),
        "window": window,
        "windowed": windowed if window else (),
        "qk_norm": family in ("qwen3", "qwen3_moe", "gemma3", "olmo2"),
        "qkv_bias": bias or family == "qwen2",
        "output_bias": bias,
        "mlp_bias": bool(config.get("mlp_bias", False)),
        "activation": _activation(config, "hidden_act", "silu"),
        "tied": bool(config.get("tie_word_embeddings", False)),
    }


def _gemma3(config: Fields) -> dict[str, Any]:
    _refuse(config, "attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")
    need = _needed(config)
    layers, head_dim = need("num_hidden_layers"), config.get("head_dim", 256)
    pattern = config.get("sliding_window_pattern", 6)
    kinds = config.get("layer_types")
    window = config.get("sliding_window", 4096)
    rope = config.get("rope_parameters") or {}
    full = rope.get("full_attention") or config.get("rope_scaling") or {}
    local = rope.get("sliding_attention") or {}
    theta: Any = full.get("rope_theta", config.get("rope_theta", 1e6))
    window_theta: Any = local.get("rope_theta", config.get("rope_local_base_freq", 1e4))
    if _rope_kind(local) != "default":
        raise UnsupportedModel(
            f"config: rope of windowed layers: got scaling {_rope_kind(local)!r}, expected 'default'."
        )
    return {
        "head_dim": head_dim,
        "rope_theta": float(theta),
        "rope_scaling": _rope_scaling(full, config),
        "window": window,
        "windowed": tuple(
            kinds[i] == "sliding_attention" if kinds else bool((i + 1) % pattern) for i in range(layers)
        ),
        "window_rope_theta": float(window_theta),
        "embedding_scale": math.sqrt(need("hidden_size")),
        "attention_scale": 1 / math.sqrt(config.get("query_pre_attn_scalar", 256)),
        "post_norm": True,
        "activation": _activation(config, "hidden_activation", "gelu_pytorch_tanh"),
        "tied": bool(config.get("tie_word_embeddings", True)),
    }


def _phi3(config: Fields) -> dict[str, Any]:
    need = _needed(config)
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    share = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    head_dim = need("hidden_size") // need("num_attention_heads")
    rotary = {"rotary_dim": None if share == 1 else int(head_dim * share)}
    if _rope_kind(rope) == "default":
        return rotary
    if _rope_kind(rope) not in ("longrope", "su"):
        raise UnsupportedModel(f"rope: got scaling {_rope_kind(rope)!r}, expected 'default' or 'longrope'.")
    longest = need("max_position_embeddings")
    original = config.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
    if not original:
        raise BadModelFile(
            "config.json: got no 'original_max_position_embeddings', expected one of longrope."
        )
    stretch = rope.get("factor") or longest / original
    usual = math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 else 1.0
    scaling = RopeScaling(
        "longrope",
        factors=tuple(map(float, rope["short_factor"])),
        magnitude=float(rope.get("attention_factor") or usual),
    )
    # Past `original` tokens other factors hold, for every position: a cache of keys would have to turn anew.
    return rotary | {"rope_scaling": scaling, "context": min(longest, original)}


def _experts(config: Fields) -> dict[str, Any]:
    """Mixtral and Qwen3-MoE."""
    need = _needed(config)
    dense, step = config.get("mlp_only_layers") or (), config.get("decoder_sparse_step", 1)
    sparse = tuple(i not in dense and (i + 1) % step == 0 for i in range(need("num_hidden_layers")))
    return {
        "experts": config.get("num_local_experts") or need("num_experts"),
        "experts_per_token": need("num_experts_per_tok"),
        "expert_ffn": config.get("moe_intermediate_size") or need("intermediate_size"),
        "experts_normed": bool(config.get("norm_topk_prob", config["model_type"] == "mixtral")),
        "sparse": sparse,
    }


def _gpt2(config: Fields) -> ModelConfig:
    _refuse(config, "scale_attn_by_inverse_layer_idx", "add_cross_attention")
    need = _needed(config)
    hidden, heads = need("n_embd"), need("n_head")
    return ModelConfig(
        family="gpt2",
        vocab=need("vocab_size"),
        hidden=hidden,
        layers=need("n_layer"),
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        ffn=config.get("n_inner") or 4 * hidden,
        context=need("n_positions"),
        norm_eps=float(need("layer_norm_epsilon")),
        learned_positions=True,
        attention_scale=None if config.get("scale_attn_weights", True) else 1.0,
        norm="layer",
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        activation=_activation(config, "activation_function", "gelu_new"),
        gated=False,
        tied=bool(config.get("tie_word_embeddings", True)),
    )


_OWN: dict[str, Callable[[Fields], dict[str, Any]]] = {
    "gemma3": _gemma3,
    "phi3": _phi3,
    "olmo2": lambda _: {"pre_norm": False, "post_norm": True, "qk_norm_whole": True},
    "mixtral": _experts,
    "qwen3_moe": _experts,
}


def _needed(config: Fields) -> Callable[[str], Any]:
    def need(key: str) -> Any:
        if config.get(key) is None:
            raise BadModelFile(f"config.json: got no {key!r}, expected one in every decoder of its family.")
        return config[key]

    return need


def _refuse(config: Fields, *names: str) -> None:
    for name in names:
        if config.get(name):
            raise UnsupportedModel(
                f"config: {name}: got {config[name]!r}, expected none; it is not built yet."
            )


def _activation(config: Fields, key: str, usual: str) -> Activation:
    name = config.get(key, usual)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnsupportedModel(f"config: {key}: got {name!r}, expected one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]


def _rope_kind(rope: Fields) -> str:
    return str(rope.get("rope_type", rope.get("type", "default")))


def _rope_scaling(rope: Fields, config: Fields) -> RopeScaling | None:
    match _rope_kind(rope):
        case "default":
            return None
        case "linear":
            return RopeScaling("linear", float(rope["factor"]))
        case "llama3":
            original = rope.get("original_max_position_embeddings", config.get("max_position_embeddings"))
            return RopeScaling(
                "llama3",
                float(rope["factor"]),
                float(rope["low_freq_factor"]),
                float(rope["high_freq_factor"]),
                int(original),
            )
    raise UnsupportedModel(
        f"rope: got scaling {_rope_kind(rope)!r}, expected 'default', 'linear' or 'llama3'."
    )
