"""The shape of a decoder; no torch. `catalogue.hf_config` and `catalogue.gguf_config` read it from files."""

from dataclasses import dataclass
from typing import Literal

from thermoscope.errors import BadModelFile

Activation = Literal["silu", "gelu_tanh", "gelu"]


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies were stretched after training.

    `linear` divides every frequency by `factor`. `llama3` divides only waves longer than
    `original_context / low`, leaves those shorter than `original_context / high`, and blends between.
    `longrope` divides each frequency by its own of `factors`, and multiplies what turns by `magnitude`.
    """

    kind: Literal["linear", "llama3", "longrope"]
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original_context: int = 8192
    factors: tuple[float, ...] = ()
    magnitude: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that tells one decoder from another.

    - `family`: the architecture's name. `vocab`: rows of the embedding.
    - `layers`, `hidden`, `ffn`: depth, width of the residual stream, width of the MLP.
    - `heads` queries share `kv_heads` keys and values of `head_dim` numbers each.
    - `context`: longest sequence that the model was trained for. `window`: how far back a token sees in
      the layers where `windowed` is true; None sees everything.
    - `learned_positions`: a table of them is added to the embedding, and nothing rotates (GPT-2).
    - `rope_theta`: base of the rotary frequencies. `window_rope_theta`: that of windowed layers, unscaled
      (Gemma); None is the same. `rotary_dim`: numbers of a head that rotate, the first; None is all.
    - `embedding_scale`: what the embedding is multiplied with. `attention_scale`: what attention's scores
      are; None is 1/√head_dim.
    - `norm`: RMSNorm, or LayerNorm with a bias. `norm_eps`: added to the mean square.
    - `pre_norm`, `post_norm`: whether a norm stands before attention and MLP (not in OLMo 2), and whether
      one stands behind them, before the sum (Gemma, OLMo 2).
    - `qk_norm`: RMSNorm on each head's q and k (Qwen3), or with `qk_norm_whole` on all heads' at once.
    - `qkv_bias`, `output_bias`, `mlp_bias`: biases on Q, K, V (Qwen2), on attention's output, in the MLP.
    - `activation`, `gated`: the MLP is down(act(gate x) · up x), or without a gate down(act(up x)).
    - `experts`: MLPs of width `expert_ffn` in each layer where `sparse` is true, `experts_per_token` of
      them at work on a row; `experts_normed`: their weights are scaled to sum to 1. 0 experts: none.
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
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    window: int | None = None
    windowed: tuple[bool, ...] = ()
    window_rope_theta: float | None = None
    rotary_dim: int | None = None
    learned_positions: bool = False
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    norm: Literal["rms", "layer"] = "rms"
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: bool = False
    qk_norm_whole: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    activation: Activation = "silu"
    gated: bool = True
    experts: int = 0
    experts_per_token: int = 0
    expert_ffn: int = 0
    experts_normed: bool = False
    sparse: tuple[bool, ...] = ()
    tied: bool = False

    def __post_init__(self) -> None:
        sizes = ["vocab", "hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "context"]
        sizes += ["experts", "experts_per_token", "expert_ffn"] if self.experts else []
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
        rotary = self.head_dim if self.rotary_dim is None else self.rotary_dim
        if rotary % 2 or not 2 <= rotary <= self.head_dim:
            raise BadModelFile(
                f"config: rotary_dim: got {rotary}, expected an even number, 2 to {self.head_dim}."
            )
        if self.experts_per_token > self.experts:
            raise BadModelFile(
                f"config: got {self.experts_per_token} experts a token, expected at most {self.experts}."
            )

    @property
    def parameters(self) -> int:
        """Weights in the model; a tied output projection counts once."""
        matrices, hidden = 3 if self.gated else 2, self.hidden
        norm = hidden * (2 if self.norm == "layer" else 1)
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = 2 * hidden * (queries + keys) + 2 * norm * (self.pre_norm + self.post_norm)
        layer += (queries + 2 * keys) * self.qkv_bias + hidden * self.output_bias
        layer += (queries + keys if self.qk_norm_whole else 2 * self.head_dim) * self.qk_norm
        dense = matrices * hidden * self.ffn + ((matrices - 1) * self.ffn + hidden) * self.mlp_bias
        sparse = self.experts * (matrices * hidden * self.expert_ffn + hidden)
        mixtures = sum(self.sparse)
        tables = self.vocab * (1 if self.tied else 2) + self.context * self.learned_positions
        return (
            self.layers * layer
            + (self.layers - mixtures) * dense
            + mixtures * sparse
            + norm
            + tables * hidden
        )

    @property
    def kv_values_per_token(self) -> int:
        """Numbers that one token adds to the KV cache, over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim
