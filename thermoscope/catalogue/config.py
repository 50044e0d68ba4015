"""The shape of a decoder, read from a `config.json` or from a GGUF header; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from thermoscope.errors import BadModelFile, UnsupportedModel

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies were stretched after training.

    `linear` divides every frequency by `factor`. `llama3` divides only waves longer than
    `original_context / low`, leaves those shorter than `original_context / high`, and blends between.
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low: float = 1.0
    high: float = 4.0
    original_context: int = 8192


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that tells one Llama-like decoder from another.

    - `family`: the architecture's name. `vocab`: rows of the embedding.
    - `layers`, `hidden`, `ffn`: depth, width of the residual stream, width of the gated MLP.
    - `heads` queries share `kv_heads` keys and values of `head_dim` numbers each.
    - `context`: longest sequence that the model was trained for. `window`: how far back a token sees in
      the layers where `windowed` is true; None sees everything.
    - `norm_eps`: added to the mean square in RMSNorm. `rope_theta`: base of the rotary frequencies.
    - `qkv_bias`, `qk_norm`: biases on Q, K, V (Qwen2); RMSNorm on each head's q and k (Qwen3).
    - `tied`: the output projection is the embedding.
    """

    family: str
    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    context: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    window: int | None = None
    windowed: tuple[bool, ...] = ()
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = False

    def __post_init__(self) -> None:
        sizes = ("vocab", "hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "context")
        for name in sizes:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise BadModelFile(f"config: {name}: got {value!r}, expected a whole number, 1 or more.")
        if self.heads % self.kv_heads:
            raise BadModelFile(
                f"config: got {self.heads} heads on {self.kv_heads} KV heads, expected a multiple."
            )
        if self.head_dim % 2:
            raise BadModelFile(
                f"config: head_dim: got {self.head_dim}, expected an even number for rotary pairs."
            )

    @property
    def parameters(self) -> int:
        """Weights in the model; a tied output projection counts once."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        biases = self.head_dim * (self.heads + 2 * self.kv_heads) * self.qkv_bias
        biases += self.hidden * self.output_bias + (2 * self.ffn + self.hidden) * self.mlp_bias
        norms = 2 * self.hidden + 2 * self.head_dim * self.qk_norm
        layer = attention + 3 * self.hidden * self.ffn + norms + biases
        return self.layers * layer + self.hidden + self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token adds to the KV cache, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Self:
        """Read a Hugging Face `config.json`, of transformers 4 or 5.

        **Errors:** `UnsupportedModel` for an architecture that the decoder is not; `BadModelFile` for a
        field that is missing or out of range.
        """
        family = _family(config.get("model_type"))
        if config.get("hidden_act", "silu") != "silu":
            raise UnsupportedModel(f"config: hidden_act: got {config['hidden_act']!r}, expected 'silu'.")
        need = _needed(config, "config.json")
        hidden, heads, layers = need("hidden_size"), need("num_attention_heads"), need("num_hidden_layers")
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
        window = config.get("sliding_window")
        if family == "llama" or not config.get("use_sliding_window", family == "mistral"):
            window = None
        kinds = config.get("layer_types")
        full_first = config.get("max_window_layers", 0) if family.startswith("qwen") else 0
        windowed = tuple(kinds[i] == "sliding_attention" if kinds else i >= full_first for i in range(layers))
        bias = bool(config.get("attention_bias", False))
        return cls(
            family=family,
            vocab=need("vocab_size"),
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or (128 if family == "qwen3" else hidden // heads),
            ffn=need("intermediate_size"),
            context=need("max_position_embeddings"),
            norm_eps=float(need("rms_norm_eps")),
            rope_theta=float(theta),
            rope_scaling=_rope_scaling(rope, need("max_position_embeddings")),
            window=window,
            windowed=windowed if window else (),
            qkv_bias=bias or family == "qwen2",
            output_bias=bias,
            mlp_bias=bool(config.get("mlp_bias", False)),
            qk_norm=family == "qwen3",
            tied=bool(config.get("tie_word_embeddings", False)),
        )

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Self:
        """Read a GGUF header: its key-value metadata, and each tensor's shape in rows-first order.

        **Errors:** as `from_hf`.
        """
        arch = metadata.get("general.architecture")
        family = _family(arch)
        need = _needed({key.removeprefix(f"{arch}."): metadata[key] for key in metadata}, "GGUF header")
        optional = {key.removeprefix(f"{arch}."): metadata[key] for key in metadata}
        heads, hidden, layers = need("attention.head_count"), need("embedding_length"), need("block_count")
        if "token_embd.weight" not in tensors:
            raise BadModelFile("GGUF: got no tensor 'token_embd.weight', expected one in every model.")
        scaling = None
        if optional.get("rope.scaling.type") not in (None, "none"):
            kind = optional["rope.scaling.type"]
            if kind != "linear":
                raise UnsupportedModel(f"GGUF: rope.scaling.type: got {kind!r}, expected 'none' or 'linear'.")
            scaling = RopeScaling("linear", float(need("rope.scaling.factor")))
        window = optional.get("attention.sliding_window")
        return cls(
            family=family,
            vocab=tensors["token_embd.weight"][0],
            hidden=hidden,
            layers=layers,
            heads=heads,
            kv_heads=optional.get("attention.head_count_kv", heads),
            head_dim=optional.get("attention.key_length", hidden // heads),
            ffn=need("feed_forward_length"),
            context=need("context_length"),
            norm_eps=float(need("attention.layer_norm_rms_epsilon")),
            rope_theta=float(optional.get("rope.freq_base", 10000.0)),
            rope_scaling=scaling,
            window=window,
            windowed=(True,) * layers if window else (),
            qkv_bias="blk.0.attn_q.bias" in tensors,
            output_bias="blk.0.attn_output.bias" in tensors,
            mlp_bias="blk.0.ffn_down.bias" in tensors,
            qk_norm="blk.0.attn_q_norm.weight" in tensors,
            tied="output.weight" not in tensors,
        )


def _family(name: object) -> str:
    if name not in FAMILIES:
        raise UnsupportedModel(f"architecture: got {name!r}, expected one of {', '.join(FAMILIES)}.")
    return str(name)


def _needed(fields: Mapping[str, Any], where: str) -> Any:
    def need(key: str) -> Any:
        if fields.get(key) is None:
            raise BadModelFile(f"{where}: got no {key!r}, expected one in every decoder.")
        return fields[key]

    return need


def _rope_scaling(rope: Mapping[str, Any], context: int) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", float(rope["factor"]))
    if kind == "llama3":
        return RopeScaling(
            "llama3",
            float(rope["factor"]),
            float(rope["low_freq_factor"]),
            float(rope["high_freq_factor"]),
            int(rope.get("original_max_position_embeddings", context)),
        )
    raise UnsupportedModel(f"rope: got scaling {kind!r}, expected 'default', 'linear' or 'llama3'.")
