"""The shape of a decoder, as a planner needs it: every matrix, parameter and cached number; no torch.

`catalogue.config.ModelConfig` says what the engine can run. This says what can be asked about: experts that
always run, latent attention, blocks whose halves stand side by side.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self

from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import BadModelFile

Positions = Literal["rotary", "learned", "alibi", "none"]


@dataclass(frozen=True)
class Matrix:
    """A linear map: `rows` outputs of `columns` inputs, and a bias of `rows` numbers where `bias` is true.

    `count` of them stand in a layer, and `active` of them work on a token (both 1 but for experts).
    """

    name: str
    rows: int
    columns: int
    bias: bool = False
    count: int = 1
    active: int = 1

    @property
    def parameters(self) -> int:
        """Weights and biases of one of them."""
        return self.rows * self.columns + self.rows * self.bias


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts: MLPs of which a router picks a few for each token.

    - `count` MLPs of width `ffn`, `active` of them at work on a token.
    - `shared_ffn`: width of those that always run, together; `shared_gate`: a number scales their sum
      (Qwen2-MoE).
    - `router_bias`: the router has one (gpt-oss; DeepSeek-V3's correction).
    - `dense_layers`: the first layers, which have an ordinary MLP; `sparse`: which layers have experts,
      repeated to the model's depth; empty is every one.
    """

    count: int
    active: int
    ffn: int
    shared_ffn: int = 0
    shared_gate: bool = False
    router_bias: bool = False
    dense_layers: int = 0
    sparse: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        _whole("experts", self, "count", "active", "ffn")
        if self.active > self.count:
            raise BadModelFile(
                f"experts: active: got {self.active}, expected at most the {self.count} that there are."
            )

    def at(self, layer: int) -> bool:
        """Whether this layer has experts."""
        return layer >= self.dense_layers and (not self.sparse or self.sparse[layer % len(self.sparse)])


@dataclass(frozen=True, kw_only=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): what is cached is small.

    - `q_rank`: width that queries are squeezed through; None is one full matrix.
    - `kv_rank`: width that keys and values are squeezed through, and that is cached.
    - `rope_dim`, `nope_dim`: numbers of a head's query that rotate, and that do not. The rotating key,
      which all heads share, is cached beside. `v_dim`: numbers of a head's value.
    """

    q_rank: int | None
    kv_rank: int
    rope_dim: int
    nope_dim: int
    v_dim: int

    def __post_init__(self) -> None:
        _whole("latent", self, "kv_rank", "rope_dim", "nope_dim", "v_dim")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What tells one decoder's costs from another's.

    - `vocab`: rows of the embedding. `hidden`: width of the residual stream. `ffn`: width of an ordinary
      MLP.
    - `heads` queries share `kv_heads` keys and values of `head_dim` numbers each.
    - `context`: longest sequence that it was made for. `position_rows`: rows of a table of learned positions
      where they are more than that (OPT's has two more).
    - `gated`: an MLP is down(act(gate x) · up x), or without a gate down(act(up x)).
    - `tied`: the output projection is the embedding.
    - `norm`: RMSNorm or LayerNorm; `norm_weight`, `norm_bias`: what a norm has learned. `norm_float32`: it
      works in float32 to its end and rounds what its weight has multiplied (Gemma, OLMo, gpt-oss, Command
      R); others round before. `norms`: those of the stream's width in a layer, 2 as a rule, 4 in Gemma 2, 1
      where attention and MLP share theirs. `embedding_norm`: one more behind the embedding (BLOOM).
    - `qk_norm`: a norm over each head's query and key, or over all heads' at once.
    - `parallel_block`: attention and MLP read the same input and are added together (Falcon, Pythia,
      phi-2).
    - `qkv_bias`, `output_bias`, `mlp_bias`, `head_bias`: biases on Q, K, V, on attention's output, in the
      MLP or its experts, on the output projection. `sinks`: a learned logit for each head, which takes
      weight from the tokens.
    - `fused_qkv`: transformers has Q, K and V as one product and reads V in place (GPT-2, Phi-3; Falcon
      copies it out). Here they stay three matrices.
    - `window`: how far back a token sees in the layers where `windowed`, repeated to the model's depth, is
      true; an empty `windowed` is every layer, and a `window` of None sees everything.
    - `published_parameters`: the count that its makers give; None where nobody did. `source`: where all
      this stands. `assumptions`: what a file does not say, and what was taken instead.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context: int
    gated: bool = True
    tied: bool = False
    activation: str = "silu"
    positions: Positions = "rotary"
    position_rows: int | None = None
    norm: Literal["rms", "layer"] = "rms"
    norm_weight: bool = True
    norm_bias: bool = False
    norm_float32: bool = False
    norms: int = 2
    embedding_norm: bool = False
    qk_norm: Literal["head", "whole"] | None = None
    parallel_block: bool = False
    qkv_bias: bool = False
    fused_qkv: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    sinks: bool = False
    experts: Experts | None = None
    latent: Latent | None = None
    window: int | None = None
    windowed: tuple[bool, ...] = ()
    published_parameters: int | None = None
    source: str = ""
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("hidden", "layers", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context")
        _whole(self.name, self, *sizes)
        if self.heads % self.kv_heads:
            raise BadModelFile(
                f"{self.name}: got {self.heads} heads on {self.kv_heads} KV heads, expected a multiple."
            )

    @classmethod
    def of(cls, config: ModelConfig, name: str) -> Self:
        """The shape of a model that the engine runs."""
        experts = None
        if config.experts:
            experts = Experts(
                count=config.experts,
                active=config.experts_per_token,
                ffn=config.expert_ffn,
                sparse=config.sparse,
            )
        return cls(
            name=name,
            hidden=config.hidden,
            layers=config.layers,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            ffn=config.ffn,
            vocab=config.vocab,
            context=config.context,
            gated=config.gated,
            tied=config.tied,
            activation=config.activation,
            positions="learned" if config.learned_positions else "rotary",
            norm=config.norm,
            norm_bias=config.norm == "layer",
            norm_float32=config.family in ("gemma3", "olmo2"),
            norms=2 * (config.pre_norm + config.post_norm),
            qk_norm=("whole" if config.qk_norm_whole else "head") if config.qk_norm else None,
            qkv_bias=config.qkv_bias,
            fused_qkv=config.family in ("gpt2", "phi3"),
            output_bias=config.output_bias,
            mlp_bias=config.mlp_bias,
            experts=experts,
            window=config.window,
            windowed=config.windowed,
            source="the model's own file",
        )

    def attention(self) -> tuple[Matrix, ...]:
        """The matrices of attention, the same in every layer."""
        if self.latent is None:
            queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
            return (
                Matrix("q", queries, self.hidden, self.qkv_bias),
                Matrix("k", keys, self.hidden, self.qkv_bias),
                Matrix("v", keys, self.hidden, self.qkv_bias),
                Matrix("o", self.hidden, queries, self.output_bias),
            )
        to = self.latent
        queries = self.heads * (to.nope_dim + to.rope_dim)
        if to.q_rank is None:
            query: tuple[Matrix, ...] = (Matrix("q", queries, self.hidden),)
        else:
            query = (Matrix("q_a", to.q_rank, self.hidden), Matrix("q_b", queries, to.q_rank))
        return (
            *query,
            Matrix("kv_a", to.kv_rank + to.rope_dim, self.hidden),
            Matrix("kv_b", self.heads * (to.nope_dim + to.v_dim), to.kv_rank),
            Matrix("o", self.hidden, self.heads * to.v_dim),
        )

    def mlp(self, layer: int) -> tuple[Matrix, ...]:
        """The matrices of this layer's MLP: `gate`, `up`, `down`, or with experts `router`, `experts.gate` …,
        `shared.gate` …."""
        experts = self.experts
        if experts is None or not experts.at(layer):
            return tuple(self._mlp("", self.ffn))
        return (
            Matrix("router", experts.count, self.hidden, experts.router_bias),
            *self._mlp("experts.", experts.ffn, experts.count, experts.active),
            *(self._mlp("shared.", experts.shared_ffn) if experts.shared_ffn else ()),
            *([Matrix("shared.scale", 1, self.hidden)] if experts.shared_gate else ()),
        )

    def _mlp(self, prefix: str, width: int, count: int = 1, active: int = 1) -> Iterator[Matrix]:
        for name in ("gate", "up") if self.gated else ("up",):
            yield Matrix(prefix + name, width, self.hidden, self.mlp_bias, count, active)
        yield Matrix(prefix + "down", self.hidden, width, self.mlp_bias, count, active)

    def matrices(self, layer: int) -> tuple[Matrix, ...]:
        """All matrices of this layer."""
        return self.attention() + self.mlp(layer)

    @property
    def embedding(self) -> Matrix:
        """The table that token ids are looked up in."""
        return Matrix("embedding", self.vocab, self.hidden)

    @property
    def head(self) -> Matrix:
        """The output projection; where `tied`, its weights are the embedding's."""
        return Matrix("head", self.vocab, self.hidden, self.head_bias)

    @property
    def norm_parameters(self) -> int:
        """Numbers in one norm of the stream's width."""
        return self.hidden * (self.norm_weight + self.norm_bias)

    @property
    def layer_extras(self) -> int:
        """Parameters of a layer that are in no matrix: norms, sinks."""
        extras = self.norms * self.norm_parameters + self.heads * self.sinks
        if self.qk_norm:
            width = self.heads + self.kv_heads if self.qk_norm == "whole" else 2
            extras += width * self.head_dim
        if self.latent:
            extras += self.latent.kv_rank + (self.latent.q_rank or 0)
        return extras

    @property
    def parameters(self) -> int:
        """Parameters in the model; a tied output projection counts once."""
        return self._parameters(active=False)

    @property
    def active_parameters(self) -> int:
        """Parameters without the experts that do not work on a token."""
        return self._parameters(active=True)

    def _parameters(self, *, active: bool) -> int:
        layers = sum(
            each.parameters * (each.active if active else each.count)
            for layer in range(self.layers)
            for each in self.matrices(layer)
        )
        tables = self.embedding.parameters + (self.position_rows or self.context) * self.hidden * (
            self.positions == "learned"
        )
        head = self.vocab * self.head_bias if self.tied else self.head.parameters
        norms = self.norm_parameters * (1 + self.embedding_norm)
        return tables + layers + self.layers * self.layer_extras + norms + head

    @property
    def kv_values(self) -> int:
        """Numbers that one token adds to the cache of one layer."""
        if self.latent:
            return self.latent.kv_rank + self.latent.rope_dim
        return 2 * self.kv_heads * self.head_dim

    def window_at(self, layer: int) -> int | None:
        """How many positions this layer looks back at most; None is all."""
        seen = not self.windowed or self.windowed[layer % len(self.windowed)]
        return self.window if seen else None


def _whole(name: str, shape: object, *fields: str) -> None:
    for field in fields:
        value = getattr(shape, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadModelFile(f"{name}: {field}: got {value!r}, expected a whole number, 1 or more.")
