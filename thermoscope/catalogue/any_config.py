"""The shape of any decoder from its `config.json`, for planning: also of families that the engine cannot run.

Hugging Face's families say the same things in many words, and each leaves out what it holds for usual. Here
stand the words, what every family fixes, and what it takes where the file is silent.
"""

from collections.abc import Mapping
from typing import Any

from thermoscope.catalogue.architecture import Architecture, Experts, Latent
from thermoscope.catalogue.hf_config import ACTIVATIONS
from thermoscope.errors import BadModelFile, UnsupportedModel

Fields = Mapping[str, Any]

WORDS = {
    "hidden": ("hidden_size", "n_embd", "d_model", "n_embed"),
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "kv_n_heads", "multi_query_group_num"),
    "head_dim": ("head_dim", "kv_channels"),
    "ffn": ("intermediate_size_mlp", "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"),
    "vocab": ("padded_vocab_size", "vocab_size"),
    "context": (
        *("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"),
        *("max_sequence_length", "n_ctx", "model_max_length"),
    ),
    "window": ("sliding_window", "attention_chunk_size", "window_size"),
    "activation": ("hidden_act", "hidden_activation", "activation_function"),
    "expert_count": ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts"),
    "expert_active": ("num_experts_per_tok", "num_experts_per_token", "moe_top_k"),
    "expert_ffn": ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size"),
    "shared_ffn": ("shared_expert_intermediate_size", "shared_intermediate_size"),
    "dense_layers": ("first_k_dense_replace", "moe_num_dense_layers"),
}
BIASES = ("qkv_bias", "output_bias", "mlp_bias")
FLAGS = {  # a field of the file -> what it switches on
    "attention_bias": ("qkv_bias", "output_bias"),
    "mlp_bias": ("mlp_bias",),
    "use_qkv_bias": ("qkv_bias",),
    "add_qkv_bias": ("qkv_bias",),
    "lm_head_bias": ("head_bias",),
    "use_bias": BIASES,
    "bias": BIASES,
}
BIASED = dict.fromkeys(BIASES, True)
LAYER_NORM: dict[str, Any] = {"norm": "layer", "norm_bias": True}
OLD = LAYER_NORM | {"gated": False}
TIED: dict[str, Any] = {"tie_word_embeddings": True}
POSITIONS = {"falcon": "rotary", "mpt": "learned"}
OF_EXPERTS = ("router_bias", "shared_gate")
# What families fix, whatever their files say; `router_bias` and `shared_gate` belong to their experts.
_FIXED: tuple[tuple[str, Fields], ...] = (
    ("llama mistral mixtral ministral granite granitemoe granitemoeshared smollm3", {}),
    ("internlm2 minicpm deepseek_v2 llama4_text", {}),
    ("phi3", {"fused_qkv": True}),
    ("qwen qwen2", {"qkv_bias": True, "output_bias": False}),
    ("qwen2_moe", {"qkv_bias": True, "output_bias": False, "shared_gate": True}),
    ("qwen3 qwen3_moe", {"qk_norm": "head"}),
    ("gemma", {"norm_float32": True}),
    ("gemma2", {"norm_float32": True, "norms": 4}),
    ("gemma3_text", {"norm_float32": True, "norms": 4, "qk_norm": "head"}),
    ("deepseek_v3 kimi_k2", {"router_bias": True}),
    ("olmo2 olmo3", {"norm_float32": True, "qk_norm": "whole"}),
    ("olmoe", {"qk_norm": "whole"}),
    ("olmo", {"norm": "layer", "norm_weight": False, "norm_float32": True}),
    ("gpt_oss", {"norm_float32": True, "mlp_bias": True, "router_bias": True, "sinks": True}),
    ("glm chatglm", {"output_bias": False}),
    ("glm4", {"output_bias": False, "norms": 4}),
    ("phimoe stablelm", LAYER_NORM),
    ("phi", OLD | BIASED | {"norms": 1, "parallel_block": True, "head_bias": True}),
    ("gpt2 gpt_bigcode", OLD | BIASED | {"positions": "learned", "fused_qkv": True}),
    ("opt", OLD | BIASED | {"positions": "learned"}),
    ("gpt_neo", OLD | {"positions": "learned", "output_bias": True, "mlp_bias": True}),
    ("gptj", OLD | {"norms": 1, "parallel_block": True, "mlp_bias": True, "head_bias": True}),
    ("gpt_neox", OLD | {"mlp_bias": True, "fused_qkv": True}),
    ("falcon starcoder2", OLD),
    ("bloom", OLD | BIASED | {"positions": "alibi", "embedding_norm": True, "fused_qkv": True}),
    ("mpt", {"gated": False, "norm": "layer", "fused_qkv": True}),
    ("dbrx", {"norm": "layer", "fused_qkv": True}),
    ("cohere cohere2", {"norm": "layer", "norm_float32": True, "norms": 1, "parallel_block": True}),
)
FIXED = {kind: traits for kinds, traits in _FIXED for kind in kinds.split()}
# What a family takes where its file is silent; `ffn_times` is of the width of the stream.
_USUAL: tuple[tuple[str, Fields], ...] = (
    ("gemma cohere opt mpt granitemoe minicpm", TIED),
    ("gemma2", TIED | {"sliding_window_pattern": 2}),
    ("gemma3_text", TIED | {"sliding_window_pattern": 6}),
    ("cohere2", TIED | {"sliding_window_pattern": 4}),
    ("starcoder2", TIED | {"use_bias": True}),
    ("gpt2 gpt_neo", TIED | {"ffn_times": 4}),
    ("gpt_bigcode", TIED | {"ffn_times": 4, "multi_query": True}),
    ("gptj", {"ffn_times": 4}),
    ("bloom", TIED | {"ffn_times": 4, "seq_length": 2048}),
    ("falcon", TIED | {"ffn_times": 4, "multi_query": True, "parallel_attn": True, "seq_length": 2048}),
    ("gpt_neox", {"attention_bias": True, "use_parallel_residual": True}),
    ("gpt_oss", {"attention_bias": True}),
)
USUAL = {kind: taken for kinds, taken in _USUAL for kind in kinds.split()}
# Fields of layers that are neither attention nor MLP.
OTHER = (
    "ssm_cfg",
    "state_size",
    "mamba_d_state",
    "mamba_n_heads",
    "layers_block_type",
    "linear_num_key_heads",
)
ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")
SLIDING = ("sliding_attention", "chunked_attention", "local")


def read_any(config: Fields, name: str) -> Architecture:
    """Read a `config.json`; where it holds a text model and more, the text model alone.

    What the file leaves to its family's custom stands in `assumptions`.

    **Errors:** `BadModelFile` for a field that is missing or out of range; `UnsupportedModel` for a model
    that is no decoder of attention and MLPs.
    """
    assumptions = []
    if isinstance(text := config.get("text_config"), Mapping):
        assumptions.append("the text model alone, without what reads images or sound")
        config = {"tie_word_embeddings": config.get("tie_word_embeddings")} | dict(text)
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise BadModelFile("config.json: got no 'model_type', expected one in every model.")
    _refuse_others(config, kind)
    if kind not in FIXED:
        assumptions.append(f"model_type {kind!r} is not known here: read as a model like Llama")
    said = {key: value for key, value in config.items() if value is not None}
    for part in ("attn_config", "ffn_config"):  # MPT, DBRX
        said = dict(said.get(part, {})) | said
    usual = {key: value for key, value in USUAL.get(kind, {}).items() if key not in said}
    for key, value in usual.items():
        assumptions.append(f"config.json does not say {key}: {value}, as usual for {kind}")
    file = _File(kind, usual | said)
    return Architecture(
        name=name, source="config.json", assumptions=tuple(assumptions), **file.shape(), **file.traits()
    )


def _refuse_others(config: Fields, kind: str) -> None:
    makes_text = any(each.endswith(("CausalLM", "LMHeadModel")) for each in config.get("architectures") or ())
    if kind not in FIXED and not makes_text:
        raise UnsupportedModel(f"config.json: got model_type {kind!r}, expected a decoder.")
    mixed = any(each not in ATTENTION for each in config.get("layer_types") or ())
    if mixed or config.get("is_encoder_decoder") or any(config.get(each) for each in OTHER):
        raise UnsupportedModel(
            f"config.json: got model_type {kind!r}, which has an encoder or layers that are neither "
            "attention nor MLP; expected a decoder of attention and MLPs."
        )


class _File:
    """The fields of one file, found under any of their words."""

    def __init__(self, kind: str, said: Fields) -> None:
        self.kind, self.said = kind, said
        self.hidden, self.heads = self.need("hidden"), self.need("heads")
        self.layers = self.need("layers")

    def find(self, word: str) -> Any:
        return next((self.said[each] for each in WORDS[word] if each in self.said), None)

    def need(self, word: str) -> Any:
        if (found := self.find(word)) is None:
            words = " or ".join(map(repr, WORDS[word]))
            raise BadModelFile(f"config.json: got no {words}, expected one in every decoder.")
        return found

    def shape(self) -> dict[str, Any]:
        """The sizes."""
        latent, experts = self.latent(), self.experts()
        ffn = self.find("ffn") or int(self.hidden * self.said.get("ffn_times", 0))
        if self.kind == "mpt":
            ffn = int(self.said.get("expansion_ratio", 4) * self.hidden)
        if self.kind == "qwen":  # the file counts gate and up together
            ffn //= 2
        if not ffn and experts is None:
            self.need("ffn")
        head_dim = self.find("head_dim") or self.hidden // self.heads
        return {
            **{"hidden": self.hidden, "layers": self.layers, "heads": self.heads},
            "kv_heads": self.heads if latent else self.kv_heads(),
            "head_dim": latent.nope_dim + latent.rope_dim if latent else head_dim,
            "ffn": ffn or (experts.ffn if experts else 0),
            **{"vocab": self.need("vocab"), "context": self.need("context")},
            **{"latent": latent, "experts": experts},
            **self.windows(),
        }

    def kv_heads(self) -> int:
        """How many keys and values a layer has."""
        if self.said.get("new_decoder_architecture"):
            return int(self.said.get("num_kv_heads", self.heads))
        if self.said.get("multi_query"):
            return 1
        return int(self.find("kv_heads") or self.heads)

    def latent(self) -> Latent | None:
        """DeepSeek's attention."""
        if "kv_lora_rank" not in self.said:
            return None
        words = ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        for word in words:
            if word not in self.said:
                raise BadModelFile(f"config.json: got no {word!r}, expected one beside 'kv_lora_rank'.")
        kv_rank, rope_dim, nope_dim, v_dim = (self.said[word] for word in words)
        return Latent(
            q_rank=self.said.get("q_lora_rank"),
            **{"kv_rank": kv_rank, "rope_dim": rope_dim, "nope_dim": nope_dim, "v_dim": v_dim},
        )

    def experts(self) -> Experts | None:
        """The mixture of experts, where there is one."""
        if not (count := self.find("expert_count")):
            return None
        ffn = self.need("expert_ffn")
        shared = self.find("shared_ffn") or self.said.get("n_shared_experts", 0) * ffn
        step = self.said.get("interleave_moe_layer_step") or self.said.get("decoder_sparse_step") or 1
        dense, sparse = self.said.get("mlp_only_layers") or (), self.said.get("moe_layers")
        return Experts(
            count=count,
            active=self.need("expert_active"),
            ffn=ffn,
            shared_ffn=ffn if self.kind == "llama4_text" else shared,
            shared_gate=bool(FIXED.get(self.kind, {}).get("shared_gate")),
            router_bias=bool(FIXED.get(self.kind, {}).get("router_bias")),
            dense_layers=self.find("dense_layers") or 0,
            sparse=tuple(
                i in sparse if sparse else (i + 1) % step == 0 and i not in dense for i in range(self.layers)
            ),
        )

    def windows(self) -> dict[str, Any]:
        """Which layers look back how far."""
        window = self.find("window")
        if not window or not self.said.get("use_sliding_window", not self.kind.startswith("qwen")):
            return {}
        kinds = self.said.get("layer_types") or self.said.get("attention_layers")
        if not kinds and "attention_types" in self.said:  # GPT-Neo: [[["global", "local"], 12]]
            kinds = [each for some, times in self.said["attention_types"] for each in some * times]
        pattern, layers = self.said.get("sliding_window_pattern"), range(self.layers)
        if kinds:
            windowed = tuple(each in SLIDING for each in kinds)
        elif pattern:
            windowed = tuple((i + 1) % pattern != 0 for i in layers)
        elif rotating := self.said.get("no_rope_layers"):  # Llama 4: 1 where positions turn, and windows are
            windowed = tuple(map(bool, rotating))
        else:
            windowed = tuple(i >= self.said.get("max_window_layers", 0) for i in layers)
        return {"window": window, "windowed": windowed} if any(windowed) else {}

    def traits(self) -> dict[str, Any]:
        """What is there at all: biases, norms, gates, positions."""
        said, kind = self.said, self.kind
        name = self.find("activation") or "silu"
        found: dict[str, Any] = {
            "tied": bool(said.get("tie_word_embeddings", False)),
            "activation": ACTIVATIONS.get(name, name),
        }
        for flag, switched in FLAGS.items():
            if flag in said:
                found |= dict.fromkeys(switched, bool(said[flag]))
        fixed = {key: value for key, value in FIXED.get(kind, {}).items() if key not in OF_EXPERTS}
        found |= fixed
        if kind in ("cohere", "stablelm") and (said.get("use_qk_norm") or said.get("qk_layernorm")):
            found["qk_norm"] = "whole"
        if said.get("use_parallel_residual") or said.get("parallel_attn"):
            found |= {"parallel_block": True, "norms": 2 if kind == "gpt_neox" else 1}
        if said.get("new_decoder_architecture"):
            found |= {"parallel_block": True, "norms": said.get("num_ln_in_parallel_attn", 2)}
        if kind in ("falcon", "mpt"):
            found["positions"] = "alibi" if said.get("alibi") else POSITIONS[kind]
        if kind == "mpt" and not said.get("no_bias", True):
            found |= BIASED | {"norm_bias": True}
        if kind == "opt":
            found["position_rows"] = self.need("context") + 2
        return found
