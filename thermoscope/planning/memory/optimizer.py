r"""What an optimizer keeps of every trained number, and what its step holds for a moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from thermoscope.catalogue.architecture import Architecture
from thermoscope.errors import InvalidRequest

BLOCK8 = (
    1 + 4 / 256
)  # bytes of a state in 8 bits, a float32 scale for 256 of them (bitsandbytes, arXiv 2110.02861)
NEWTON_SCHULZ = 3  # copies of a matrix in bfloat16 that Muon's orthogonalisation holds (X, A X and B X)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """Bytes for one trained number, where `width` is the bytes of the number itself.

    - `states`: moments of the number's own width. `fixed`: bytes of moments whatever the width.
    - `temporary`: copies of all numbers that one step holds at once.
    - `paged`: the states live in memory that pages out to the host.
    - `factored`: second moments as one number for each row and column. `matrices`: a momentum for the
      matrices of the layers only, AdamW for the rest.
    """

    states: int = 0
    fixed: float = 0.0
    temporary: int = 0
    paged: bool = False
    factored: bool = False
    matrices: bool = False
    reason: str

    def state_bytes(self, trained: int, width: int) -> float:
        """Bytes that it keeps of so many numbers; a paged state counts in full, for it must be somewhere."""
        return trained * (self.states * width + self.fixed)


FOREACH = "torch.optim.AdamW, foreach: two moments, and √v of all parameters at once in the step"
OPTIMIZERS: Mapping[str, Optimizer] = {
    "adamw": Optimizer(states=2, temporary=1, reason=FOREACH),
    "adamw-fused": Optimizer(states=2, reason="one kernel, no temporary (torch.optim.AdamW, fused)"),
    "adamw-8bit": Optimizer(fixed=2 * BLOCK8, reason="two moments of 8 bits in blocks of 256 (bitsandbytes)"),
    "paged-adamw": Optimizer(states=2, paged=True, reason="two moments in paged memory (bitsandbytes)"),
    "paged-adamw-8bit": Optimizer(
        fixed=2 * BLOCK8, paged=True, reason="two moments of 8 bits in paged memory (bitsandbytes)"
    ),
    "adafactor": Optimizer(
        factored=True, reason="a number for each row and column (Shazeer & Stern 2018), no momentum"
    ),
    "lion": Optimizer(states=1, reason="one momentum (Chen et al. 2023), updated a tensor at a time"),
    "sgd": Optimizer(reason="no state"),
    "sgd-momentum": Optimizer(states=1, reason="one momentum, in place"),
    "muon": Optimizer(
        states=1,
        matrices=True,
        reason="one momentum for the layers' matrices, AdamW for the rest (Jordan 2024)",
    ),
}


def optimizer(name: str) -> Optimizer:
    """The optimizer of that name.

    **Errors:** `InvalidRequest`.
    """
    if name not in OPTIMIZERS:
        raise InvalidRequest(
            f"optimizer: got {name!r}, expected one of {', '.join(OPTIMIZERS)}.", param="optimizer"
        )
    return OPTIMIZERS[name]


@dataclass(frozen=True)
class Step:
    """`states`: bytes that stay between steps. `temporary`: bytes that a step holds for a moment."""

    states: float
    temporary: float


def step(name: str, shape: Architecture, trained: int, width: int, *, whole: bool) -> Step:
    """What an optimizer takes for `trained` numbers of `width` bytes.

    `whole`: every parameter of the model is trained, so that the shapes of its matrices decide where an
    optimizer goes by matrices; else what is trained is an adapter, whose narrow matrices factor to about
    nothing.
    """
    chosen = optimizer(name)
    largest = max(
        (each.rows * each.columns for each in (shape.embedding, *shape.matrices(shape.layers - 1))), default=0
    )
    if chosen.factored:
        sides = _sides(shape) if whole else trained // 2
        return Step(
            4.0 * sides, 8.0 * (largest if whole else trained)
        )  # the update and its square, in float32
    if chosen.matrices and whole:
        tables = shape.embedding.parameters + (0 if shape.tied else shape.head.parameters)
        widest = max(each.rows * each.columns for each in shape.matrices(shape.layers - 1))
        states = (trained - tables) * width + tables * 2 * width
        return Step(float(states), float(max(NEWTON_SCHULZ * 2 * widest, tables * width)))
    return Step(chosen.state_bytes(trained, width), float(chosen.temporary * trained * width))


def _sides(shape: Architecture) -> int:
    """Rows and columns of every matrix, and the numbers that are in none."""
    tables = [shape.embedding] if shape.tied else [shape.embedding, shape.head]
    layers = [each for index in range(shape.layers) for each in shape.matrices(index)]
    return sum(each.count * (each.rows + each.columns) for each in tables + layers) + (
        shape.layers * shape.layer_extras + shape.norm_parameters
    )
