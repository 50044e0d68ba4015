"""What a model's weights take at rest, in each form that they are kept in."""

from collections.abc import Mapping
from dataclasses import dataclass

from thermoscope.catalogue.architecture import Architecture, Matrix
from thermoscope.errors import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Form:
    r"""A way of keeping a matrix of R rows and C columns, in bytes.

    $$RC\left(\frac{\text{bits}}{8} + \frac{\text{scale}}{\text{group}}\right)
    + R\,\text{row} + C\,\text{column}$$

    - `bits` of a weight. `group`: weights that share `scale` bytes of scales and zeros.
    - `row`, `column`: bytes more for each output, for each input.
    - `source`: where this layout stands.
    """

    bits: float
    group: int = 1
    scale: float = 0.0
    row: float = 0.0
    column: float = 0.0
    source: str = "the type's width"

    def matrix(self, rows: int, columns: int) -> float:
        """Bytes of one matrix."""
        weights = rows * columns
        return weights * (self.bits / 8 + self.scale / self.group) + rows * self.row + columns * self.column


BLOCKWISE = "bitsandbytes quantize_4bit: blocks of 64 with a float32 maximum"
NESTED = f"{BLOCKWISE}, itself in 8 bits with a float32 for 256 of them (QLoRA, arXiv 2305.14314, section 3)"
GPTQ = "AutoGPTQ QuantLinear, groups of 128: float16 scale, packed zero, and int32 g_idx for each input"
WIDTHS: Mapping[str, int] = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of a number
QUANTISED: Mapping[str, Form] = {
    "nf4": Form(bits=4, group=64, scale=4, source=BLOCKWISE),
    "nf4-dq": Form(bits=4, group=64, scale=1 + 4 / 256, source=NESTED),
    "int8": Form(bits=8, row=4, source="bitsandbytes LLM.int8(): a float32 scale for each row"),
    "int8-tiled": Form(
        bits=16, row=4, source="bitsandbytes before 0.42: once as stored, once in the GPU's tiles"
    ),
    "gptq-4bit": Form(bits=4, group=128, scale=2.5, column=4, source=GPTQ),
    "gptq-8bit": Form(bits=8, group=128, scale=3, column=4, source=GPTQ),
    "awq-4bit": Form(bits=4, group=128, scale=2.5, source="AutoAWQ WQLinear_GEMM, groups of 128"),
    "fp8": Form(bits=8, row=4, source="float8 with a float32 scale for each row"),
}
UNQUANTISED = {"router"}  # too small and too sensitive; every quantiser leaves them alone
FORMS = (*WIDTHS, *QUANTISED)


def form(name: str) -> Form:
    """The form of that name.

    **Errors:** `InvalidRequest`.
    """
    if name in WIDTHS:
        return Form(bits=8 * WIDTHS[name])
    if name in QUANTISED:
        return QUANTISED[name]
    raise InvalidRequest(f"weights: got {name!r}, expected one of {', '.join(FORMS)}.", param="weights")


@dataclass(frozen=True)
class Weights:
    """Bytes of a model's weights by where they stand, and the largest matrix as it is computed with.

    - `tables`: embedding, positions and head. `layers`: all layers' matrices, norms and biases, shared
      experts with them. `experts`: the matrices of routed experts, which expert parallelism spreads.
    - `layer`: of the largest layer, its experts with it.
    """

    tables: float
    layers: float
    experts: float
    layer: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.tables + self.layers + self.experts


def weights(shape: Architecture, name: str, width: int = 2, *, untied: bool = False) -> Weights:
    """What the weights take in the form `name`; what a quantised form leaves alone has `width` bytes a
    number.

    Embeddings, head, norms, biases and routers are left alone: bitsandbytes skips the head, GPTQ and AWQ
    touch the linear layers of the decoder only. `untied`: a tied head is kept as a copy.
    """
    kept = form(name)
    plain = WIDTHS.get(name, width)
    copies = 2 if untied or not shape.tied else 1
    rows = copies * shape.vocab + shape.context * (shape.positions == "learned")
    tables = plain * (rows * shape.hidden + shape.norm_parameters * (1 + shape.embedding_norm))
    layers = experts = largest = 0.0
    for index in range(shape.layers):
        common, routed = plain * float(shape.layer_extras), 0.0
        for each in shape.matrices(index):
            size = each.count * _matrix(each, kept, plain)
            if each.name.startswith("experts."):
                routed += size
            else:
                common += size
        layers, experts, largest = layers + common, experts + routed, max(largest, common + routed)
    return Weights(tables, layers, experts, largest)


def _matrix(matrix: Matrix, kept: Form, plain: int) -> float:
    quantised = matrix.name not in UNQUANTISED
    form_ = kept if quantised else Form(bits=8 * plain)
    return form_.matrix(matrix.rows, matrix.columns) + plain * matrix.rows * matrix.bias
