r"""What one layer keeps of a token for its backward pass, and what that pass holds for a moment.

Counted tensor by tensor from autograd's rules: a frozen linear map keeps nothing of its input, a trained one
keeps it; a product of two tensors keeps both; softmax keeps its result. Bytes a token; w is the width of a
number.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from thermoscope.catalogue.architecture import Architecture, Matrix
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.stack import Stack

Attention = Literal["flash", "sdpa", "eager"]
FLOAT32 = 4
MASK = 1  # a bool of dropout


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Bytes a token: what a layer keeps by part, and what its backward pass adds at worst.

    - `norms`, `attention`, `scores` (quadratic: with eager attention only), `mlp`, `adapters`.
    - `forward`: where the forward pass stands highest of a layer that keeps nothing, for checkpoints.
    - `backward`: kept and temporary together, where the backward pass stands highest.
    """

    norms: float
    attention: float
    scores: float
    mlp: float
    adapters: float
    forward: float
    backward: float

    @property
    def kept(self) -> float:
        """All that is kept from the forward pass."""
        return self.norms + self.attention + self.scores + self.mlp + self.adapters


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What gets gradients: `weights`, all of them; or an adapter; or neither, behind a trained prefix or
    prompt.

    `quantised`: the frozen weights are.
    """

    weights: bool = False
    adapter: Adapter | None = None
    quantised: bool = False


def layer(
    shape: Architecture,
    index: int,
    trained: Trained,
    stack: Stack,
    attention: Attention,
    *,
    context: int,
    width: int = 2,
    stream: int | None = None,
    split: int = 1,
) -> Layer:
    """One layer's activations.

    - `context`: how many positions a token's scores span. `width`: bytes of an activation. `stream`: bytes of
      a number of the residual stream, where it is wider: each matrix then casts its own copy of its input.
    - `split`: devices that share each layer's heads and MLP columns; the stream stands whole on each.

    **Errors:** `InvalidRequest` for an adapter that does not fit the matrices.
    """
    h = shape.hidden
    copies = trained.quantised and stack.quantised_input
    inputs = trained.weights or copies
    wider = stream or width
    norms = _norms(shape, trained, stack, wider) + _head_norms(shape, trained, stack, width) / split
    norms += inputs * (_readers(shape, index, stack) if wider > width else _norm_outputs(shape)) * width * h
    heads = (_attention(shape, stack, attention, width, inputs=inputs) + copies * width * h) / split
    scores = shape.heads * context * _score_bytes(width) * (attention == "eager") / split
    wide = FLOAT32 if trained.quantised and stack.wide_quantised else width
    mlp, moment = _mlp(
        shape, index, trained, stack, wide, inputs=trained.weights + copies + stack.keeps_product
    )
    mlp, moment = mlp / split, moment / split
    adapters = _adapters(shape, index, trained.adapter, stack, width)
    product = _product(shape, index) * width / split if trained.weights else 0.0
    kept = norms + heads + scores + mlp + adapters
    result = 2 * wider * h  # the layer's own, and its gradient
    in_mlp = kept - product + result + moment  # the product is gone once the down projection has its gradient
    in_attention = kept - mlp + result + heads
    if attention == "eager":
        in_attention += shape.heads * context * (width + 2 * FLOAT32) / split
    at_work = [
        _adapting(shape, index, trained.adapter, part) for part in (shape.attention(), shape.mlp(index))
    ]
    forward = 2 * wider * h + max(heads + scores + at_work[0], moment + at_work[1])
    return Layer(
        norms=norms, attention=heads, scores=scores, mlp=mlp, adapters=adapters, forward=forward,
        backward=max(in_mlp, in_attention),
    )  # fmt: skip


def _norms(shape: Architecture, trained: Trained, stack: Stack, width: int) -> float:
    """What the norms keep of their inputs. Two norms of one input (a parallel block's) keep it once."""
    count = shape.norms if not shape.parallel_block or shape.norm == "rms" else 1
    number, row = _norm(shape, trained, stack, width)
    return float(count * (number * shape.hidden + row))


def _head_norms(shape: Architecture, trained: Trained, stack: Stack, width: int) -> float:
    """The same of norms over queries and keys. A LayerNorm has a mean for each head, whatever it learned."""
    if not shape.qk_norm:
        return 0.0
    heads = shape.heads + shape.kv_heads
    rows = 2 if shape.qk_norm == "whole" and shape.norm == "rms" else heads
    number, row = _norm(shape, trained, stack, width)
    return float(number * heads * shape.head_dim + row * rows)


def _norm(shape: Architecture, trained: Trained, stack: Stack, width: int) -> tuple[int, int]:
    """What one norm keeps: bytes a number of its input, and bytes a row."""
    if shape.norm == "rms":
        weighed = FLOAT32 if shape.norm_float32 else width  # what the norm's own weight multiplies
        return FLOAT32 + trained.weights * weighed if stack.norm_copy else width, FLOAT32
    both = 2 * FLOAT32  # the mean and 1/deviation
    if not (shape.norm_float32 and stack.norm_copy):
        return width, both
    if not shape.norm_weight:
        return FLOAT32, both
    return FLOAT32 * (2 + trained.weights), FLOAT32  # written out: what is off the mean, twice


def _readers(shape: Architecture, index: int, stack: Stack) -> int:
    """Matrices that read a normed stream."""
    attention = shape.attention()[:-1]
    if shape.latent is None and (shape.fused_qkv or stack.fused_qkv):
        attention = attention[:1]
    return sum(each.columns == shape.hidden for each in (*attention, *shape.mlp(index)[:-1]))


def _norm_outputs(shape: Architecture) -> int:
    """Distinct normed streams that linear maps read: attention's and the MLP's, or one for both."""
    return 1 if shape.parallel_block and shape.norms == 1 else 2


def _attention(shape: Architecture, stack: Stack, attention: Attention, width: int, *, inputs: bool) -> float:
    """Q, K, V and the result, and for a fused kernel one float32 a head of what the softmax summed up to."""
    if latent := shape.latent:
        key = shape.heads * (latent.nope_dim + latent.rope_dim)
        value = shape.heads * latent.v_dim
        return width * (2 * key + 2 * value) + FLOAT32 * shape.heads
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    shared = query if stack.repeats_kv or attention == "eager" else key
    result = query if inputs or attention != "eager" else 0  # a fused kernel keeps its own
    numbers = query + 2 * shared + result
    rotated = shape.fused_qkv and shape.positions == "rotary"  # Q and K are copies by then, V is not
    if stack.fused_qkv or rotated:  # V is a view of the whole product where no copy is made for other heads
        numbers += query + 2 * key - (shared if shared == key else 0)
    return width * numbers + FLOAT32 * shape.heads * (attention != "eager")


def _score_bytes(width: int) -> int:
    """Eager attention keeps the softmax in float32, and its copy in the model's type."""
    return FLOAT32 if width == FLOAT32 else FLOAT32 + width


def _mlp(
    shape: Architecture, index: int, trained: Trained, stack: Stack, width: int, *, inputs: int
) -> tuple[float, float]:
    """What the MLP keeps, and the gradients that its backward pass holds at once.

    `inputs`: how many times the down projection's input is kept.
    """
    product = _product(shape, index)
    inner = (2 if stack.fused_mlp else 3) if shape.gated else 1
    kept = width * product * (inner + inputs)
    moment = width * product * (3 if shape.gated else 2)
    experts = shape.experts
    if experts is not None and experts.at(index):  # rows sorted to experts, and what each expert gave
        kept += width * shape.hidden * experts.active * (1 + trained.weights)
    return float(kept), float(moment)


def _product(shape: Architecture, index: int) -> int:
    """Numbers between up and down, over all experts that work on a token."""
    experts = shape.experts
    if experts is None or not experts.at(index):
        return shape.ffn
    return experts.active * experts.ffn + experts.shared_ffn


def _adapters(shape: Architecture, index: int, adapter: Adapter | None, stack: Stack, width: int) -> float:
    """What adapters keep: their input (after dropout, with its mask), and the rank's numbers."""
    if adapter is None:
        return 0.0
    copied = stack.adapter_copy and adapter.width > width
    each_input = (adapter.width if copied else width) + MASK * adapter.dropout
    kept, seen = 0.0, set()
    for matrix in adapter.on(shape, index):
        source = _source(matrix)
        shared = stack.shared_input or not (adapter.dropout or copied)
        if not shared or source not in seen:
            kept += each_input * matrix.columns * matrix.active
        seen.add(source)
        kept += width * matrix.active * (adapter.rank + 2 * matrix.rows * adapter.dora)
    return kept


def _adapting(shape: Architecture, index: int, adapter: Adapter | None, part: Collection[Matrix]) -> float:
    """What the widest adapter of a part holds at work: its input in the adapter's type, before and after
    dropout, with the mask."""
    if adapter is None:
        return 0.0
    columns = max((each.columns for each in adapter.on(shape, index) if each in part), default=0)
    return float(columns * (2 * adapter.width + MASK) if adapter.dropout else columns * adapter.width)


def _source(matrix: Matrix) -> str:
    """Which tensor a matrix reads."""
    name = matrix.name.rpartition(".")[2]
    return {"k": "q", "v": "q", "kv_a": "q", "q_a": "q", "up": "gate"}.get(name, name)
