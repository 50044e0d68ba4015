r"""What running a model takes of a device: weights, the KV cache, and what one forward pass holds."""

from dataclasses import dataclass, field

from thermoscope.catalogue.architecture import Architecture
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory import storage
from thermoscope.planning.memory.activations import FLOAT32, Attention
from thermoscope.planning.memory.parallel import Parallel
from thermoscope.planning.memory.plan import Plan, nonzero
from thermoscope.planning.memory.training import WORKSPACE

CACHE = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1 + 2 / 64, "int4": 0.5 + 4 / 64}
BITSANDBYTES = ("nf4", "nf4-dq", "int8")
CACHE_REASON = "an integer form has a 16-bit scale (int4: and a zero) for 64 numbers"


def cache_bytes(shape: Architecture, tokens: int, form: str = "bf16") -> float:
    r"""Bytes of the KV cache of one sequence of n tokens.

    $$\sum_{\ell} \min(n, w_\ell)\, c\, b$$

    c: numbers that a token adds to a layer, $2 H_{kv} d$, or $r_{kv} + d_{rope}$ with latent attention
    (DeepSeek-V2, arXiv 2405.04434, section 2.1). $w_\ell$: the layer's window, where it has one. b: bytes of
    a number.

    **Errors:** `InvalidRequest` for a form that is none.
    """
    if form not in CACHE:
        raise InvalidRequest(f"kv: got {form!r}, expected one of {', '.join(CACHE)}.", param="kv")
    seen = sum(min(tokens, shape.window_at(layer) or tokens) for layer in range(shape.layers))
    return seen * shape.kv_values * CACHE[form]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """One way of running a model: `batch` sequences of up to `sequence` tokens, prompt and answer together.

    - `weights`, `kv`: the forms that weights and cache are kept in.
    - `chunk`: tokens of a prompt that go through the layers at once; None is all of them.
    """

    shape: Architecture
    weights: str = "bf16"
    kv: str = "bf16"
    batch: int = 1
    sequence: int = 4096
    chunk: int | None = None
    attention: Attention = "flash"
    untied: bool = False
    parallel: Parallel = field(default_factory=Parallel)

    def __post_init__(self) -> None:
        for name in ("batch", "sequence"):
            if getattr(self, name) < 1:
                raise InvalidRequest(
                    f"{name}: got {getattr(self, name)}, expected a whole number, 1 or more.", param=name
                )
        if self.sequence > self.shape.context:
            raise InvalidRequest(
                f"seq: got {self.sequence} tokens, expected at most {self.shape.context}, the context of "
                f"{self.shape.name}.",
                param="seq",
            )
        self.parallel.check(self.shape, self.sequence)


def plan(job: Inference) -> Plan:
    """What prefill and decoding take, apart; weights and cache stand in both.

    Loading with bitsandbytes is a phase of its own: beside the weights stand, in 16 bits, the largest table
    and the largest matrix, which is being quantised.

    A pass holds one layer's stream, Q, K, V and MLP for its tokens, and logits for the last of each sequence.
    Eager attention's scores are those of the whole chunk.

    **Errors:** `InvalidRequest` for a form that is unknown.
    """
    shape, to = job.shape, job.parallel
    width = 4 if job.weights == "fp32" else 2
    kept = storage.weights(shape, job.weights, width, untied=job.untied)
    split = to.tensor * to.pipeline
    weights = (kept.tables + kept.layers) / split + kept.experts / (split * to.expert)
    # Tensor parallelism spreads KV heads; latent attention's cache has none, so each device has all of it.
    spread = to.pipeline * to.context * (1 if shape.latent else to.tensor)
    cache = job.batch * cache_bytes(shape, job.sequence, job.kv) / spread
    chunk = min(job.chunk or job.sequence, job.sequence)
    fixed = {"weights": weights, "cache": cache, "workspace": float(WORKSPACE)}
    logits = job.batch * shape.vocab * (FLOAT32 + width) / to.tensor
    phases = {
        name: fixed | {"layer": _layer(job, tokens, width), "logits": logits}
        for name, tokens in (("prefill", job.batch * chunk), ("decode", job.batch))
    }
    if job.weights in BITSANDBYTES:  # quantised on the device, from what the file has
        matrix = max(each.rows * each.columns for each in shape.matrices(shape.layers - 1))
        phases["loading"] = fixed | {
            "cache": 0.0,
            "copies": width * (shape.embedding.parameters + matrix) / split,
        }
    return Plan({name: nonzero(items) for name, items in phases.items()}, fixed)


def _layer(job: Inference, tokens: int, width: int) -> float:
    """What the widest layer holds of so many tokens at once."""
    shape = job.shape
    experts = shape.experts
    inner = max(shape.ffn, experts.active * experts.ffn + experts.shared_ffn if experts else 0)
    heads = shape.head_dim * (2 * shape.heads + 2 * shape.kv_heads)
    row = width * (2 * shape.hidden + max(heads, (3 if shape.gated else 2) * inner) / job.parallel.tensor)
    scores = shape.heads * job.sequence * (FLOAT32 + width) * (job.attention == "eager")
    return tokens * (row + scores / job.parallel.tensor)
