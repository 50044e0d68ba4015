r"""What one forward pass must do, component by component: operations, bytes, kernels.

A product of $M$ rows with a matrix of $n$ outputs and $k$ inputs is $2Mnk$ operations and reads the matrix
once. Attention of a query over $t$ positions is $4 t\, h\, d_{head}$ operations (scores, then values) and
reads $2 t\, h_{kv}\, d_{head}$ numbers of the cache once for each sequence.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from thermoscope.catalogue.architecture import Architecture, Matrix
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.formats import Format

Kind = Literal["product", "attention", "norm", "rotary", "activation", "add", "embedding", "sampling", "link"]
SOFTMAX = 5  # operations for each score: a maximum, a difference, an exponential, a sum, a quotient


@dataclass(frozen=True, kw_only=True)
class Work:
    """One component of a pass, on one device; `count` of them follow each other, and numbers are of one.

    - `flops`: operations. `weights`: bytes of weights read. `traffic`: all other bytes read and written.
    - `rows`: those of a product, or that numbers are moved in. `kernels`: how many it
      takes, in a library that fuses what is usually fused.
    - `arithmetic`: the precision of its products. `width`: the class of kernels that read the weights;
      `unpacked`: weights that are turned into that precision first.
    """

    name: str
    kind: Kind
    count: int
    flops: float
    weights: float
    traffic: float
    rows: int = 1
    kernels: int = 1
    arithmetic: str = "bf16"
    width: str = "full"
    unpacked: float = 0.0

    @property
    def bytes(self) -> float:
        """Bytes that move."""
        return self.weights + self.traffic


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward pass of `batch` sequences, each with `new` tokens after `past` that are in the cache.

    - `steps`: how many passes this stands for, each one token longer than the last: the mean of them is
      counted.
    - `format`: of the weights; `activations`, `cache`: bytes of one number of the stream and of the cache;
      `precision`: the stream's, in which unquantised products run.
    - `tensor`: devices that share each layer. `stages`: devices that each hold some layers, one after
      another.
    - `causal`: whether a token sees only those before it. `outputs`: rows of each sequence that get logits;
      none where more of its prompt is to come. `reading`: whether the tokens are a prompt's, be it one.
    """

    batch: int
    new: int
    past: int = 0
    steps: int = 1
    format: Format
    precision: str
    activations: int
    cache: float
    tensor: int = 1
    stages: int = 1
    causal: bool = True
    outputs: int = 1
    reading: bool = False

    def __post_init__(self) -> None:
        for name in ("batch", "new", "steps", "tensor", "stages"):
            if getattr(self, name) < 1:
                raise InvalidRequest(
                    f"{name}: got {getattr(self, name)}, expected a whole number, 1 or more.", param=name
                )

    @property
    def rows(self) -> int:
        """Tokens that go through the layers."""
        return self.batch * self.new

    def visible(self, window: int | None) -> float:
        """Positions that all new tokens of one sequence see together, each itself among them; the mean of
        steps.
        """
        if not self.causal:
            return float(self.new * (self.past + self.new))
        total = sum(
            _sum_to(first + self.new, window) - _sum_to(first, window)
            for first in (self.past + step for step in range(self.steps))
        )
        return total / self.steps

    def held(self, window: int | None) -> float:
        """Positions of the cache that the pass reads for one sequence; the mean of steps."""
        widest = None if window is None else window + self.new - 1
        last = self.past + self.new + self.steps - 1
        return (_sum_to(last, widest) - _sum_to(last - self.steps, widest)) / self.steps


def _sum_to(length: int, window: int | None) -> float:
    """Σ min(t, window) for t = 1 … length."""
    if window is None or length <= window:
        return length * (length + 1) / 2
    return window * (window + 1) / 2 + (length - window) * window


def components(shape: Architecture, run: Pass) -> tuple[Work, ...]:
    """The components of a pass in their order, each once with its count.

    **Errors:** `InvalidRequest` where the heads, or the layers, cannot be shared out as asked.
    """
    check_parallel(shape, run.tensor, run.stages)
    return (
        *_before(shape, run),
        *_attention(shape, run),
        *_mlp(shape, run),
        *_links(shape, run),
        *(_after(shape, run) if run.outputs else ()),
    )


def check_parallel(shape: Architecture, tensor: int, stages: int) -> None:
    """Refuse to share what cannot be shared.

    **Errors:** `InvalidRequest`.
    """
    if shape.heads % tensor:
        raise InvalidRequest(
            f"tensor: got {tensor}, expected a number that divides the {shape.heads} heads.", param="tensor"
        )
    if stages > shape.layers:
        raise InvalidRequest(
            f"stages: got {stages}, expected at most the {shape.layers} layers.", param="stages"
        )


def _before(shape: Architecture, run: Pass) -> Iterator[Work]:
    row = shape.hidden * run.activations
    table = run.rows * shape.hidden * (2 if run.activations == 2 else 4)
    yield _moved("embedding", "embedding", 1, table + run.rows * row, run.rows)
    if shape.positions == "learned":
        yield _moved("position table", "embedding", 1, table + 2 * run.rows * row, run.rows)


def _attention(shape: Architecture, run: Pass) -> Iterator[Work]:
    stream = run.rows * shape.hidden * run.activations
    norms = max(1, shape.norms)
    yield _moved("norms", "norm", shape.layers * norms, 2 * stream, run.rows)
    *inputs, output = shape.attention()
    yield _product("qkv", inputs, shape.layers, run)
    if shape.positions == "rotary":
        turned = shape.heads + shape.kv_heads
        width = turned * (shape.latent.rope_dim if shape.latent else shape.head_dim)
        turns = 2 * run.rows * width * run.activations / run.tensor
        yield _moved("rotary", "rotary", shape.layers, turns, run.rows)
    yield from _looks(shape, run)
    yield _product("o", [output], shape.layers, run)
    yield _moved("residual", "add", shape.layers * (1 if shape.parallel_block else 2), 3 * stream, run.rows)


def _looks(shape: Architecture, run: Pass) -> Iterator[Work]:
    """Scores, softmax and values; layers that look equally far are one component."""
    latent = shape.latent
    if latent is None:
        each, share = 4 * shape.heads * shape.head_dim, max(1, min(run.tensor, shape.kv_heads))
        width = 2 * shape.heads * shape.head_dim
    else:  # absorbed: each head's query meets the compressed cache, which no device shares
        each, share = 2 * shape.heads * (2 * latent.kv_rank + latent.rope_dim), 1
        width = shape.heads * (latent.nope_dim + latent.rope_dim + latent.v_dim)
        if run.new > 1:  # expanded: keys and values of a prompt are made once
            each = 2 * shape.heads * (latent.nope_dim + latent.rope_dim + latent.v_dim)
    for window, layers in sorted(
        Counter(shape.window_at(layer) for layer in range(shape.layers)).items(), key=str
    ):
        seen = run.batch * run.visible(window)
        cached = run.batch * (run.held(window) + run.new) * shape.kv_values * run.cache / share
        passed = run.rows * width * run.activations / run.tensor
        yield Work(
            name="attention" if window is None or not shape.windowed else f"attention, window {window}",
            kind="attention",
            count=layers,
            flops=seen * (each + SOFTMAX * shape.heads) / run.tensor,
            weights=0,
            traffic=cached + passed,
            kernels=2,  # the cache is written, then read; a long one in parts that are joined
            arithmetic=run.precision,
        )


def _mlp(shape: Architecture, run: Pass) -> Iterator[Work]:
    """Layers with the same matrices are counted together."""
    for matrices, layers in Counter(shape.mlp(layer) for layer in range(shape.layers)).items():
        sparse = any(each.count > 1 for each in matrices)
        router = [each for each in matrices if each.name in ("router", "shared.scale")]
        down = [each for each in matrices if each.name.endswith("down")]
        up = [each for each in matrices if each not in router and each not in down]
        if router:
            yield _product("router", router, layers, run, shared=False)
        prefix = "experts' " if sparse else ""
        yield _product(f"{prefix}{'gate and up' if shape.gated else 'up'}", up, layers, run)
        width = sum(each.rows * each.active for each in up)
        made = sum(each.columns * each.active for each in down)
        yield _moved(
            f"{prefix}activation",
            "activation",
            layers,
            run.rows * (width + made) * run.activations / run.tensor,
            run.rows,
        )
        yield _product(f"{prefix}down", down, layers, run)


def _links(shape: Architecture, run: Pass) -> Iterator[Work]:
    r"""Two sums over the devices in each layer, each of $2(p-1)/p$ times the stream (a ring); stages hand
    it on.
    """
    stream = run.rows * shape.hidden * run.activations
    if run.tensor > 1:
        each = 2 * (run.tensor - 1) / run.tensor * stream
        count = shape.layers * (1 if shape.parallel_block else 2)
        yield _moved("all-reduce", "link", count, each, 1)
    if run.stages > 1:
        yield _moved("hand over", "link", run.stages - 1, stream, 1)


def _after(shape: Architecture, run: Pass) -> Iterator[Work]:
    rows = run.batch * run.outputs
    yield _moved("final norm", "norm", 1, 2 * run.rows * shape.hidden * run.activations, run.rows)
    head = shape.head
    kept = run.format.head
    width = (
        "full" if kept is None else "8bit" if kept > 6 and run.format.width != "full" else run.format.width
    )
    yield Work(
        name="head",
        kind="product",
        count=1,
        flops=2 * rows * head.rows * head.columns / run.tensor,
        weights=head.parameters * (run.activations if kept is None else kept / 8) / run.tensor,
        traffic=rows * (head.columns + head.rows / run.tensor) * run.activations,
        rows=rows,
        arithmetic=run.precision,
        width=width,
        unpacked=head.parameters / run.tensor if kept is not None and run.format.unpacked else 0.0,
    )
    yield _moved("sampling", "sampling", 1, rows * shape.vocab * run.activations, rows)


def _product(
    name: str, matrices: list[Matrix] | tuple[Matrix, ...], layers: int, run: Pass, *, shared: bool = True
) -> Work:
    """Products of the same rows with some matrices: of experts only those that some row chose are read.

    With uniform routing a batch of M rows reaches E(1 − (1 − k/E)^M) of E experts.
    """
    devices = run.tensor if shared else 1
    flops = held = traffic = 0.0
    for each in matrices:
        size = each.rows * each.columns
        read = each.count * (1 - (1 - each.active / each.count) ** run.rows)
        flops += 2 * run.rows * each.active * size
        held += read * size
        traffic += run.rows * each.active * each.rows * run.activations
    inputs = max(each.columns * each.active for each in matrices) * run.rows * run.activations
    return Work(
        name=name,
        kind="product",
        count=layers,
        flops=flops / devices,
        weights=held * run.format.bytes / devices,
        traffic=(traffic + inputs) / devices,
        rows=run.rows,
        arithmetic=run.format.arithmetic or run.precision,
        width=run.format.width,
        unpacked=held / devices if run.format.unpacked else 0.0,
    )


def _moved(name: str, kind: Kind, count: int, traffic: float, rows: int) -> Work:
    return Work(name=name, kind=kind, count=count, flops=0, weights=0, traffic=traffic, rows=rows)
