r"""What a pass takes by what was measured: the cost of every unit of work, by the rows of the pass.

$$T = \sum_c n_c \left( a_c\, \kappa_{kind(c)}(R) + k_c\, \kappa_{kernel}(R) \right)$$

$n_c$ times in a pass a component of amount $a_c$ and $k_c$ kernels; $\kappa(R)$ in seconds, measured at some
numbers of rows $R$ and joined by straight lines between. So nothing is said of why a product of 8 rows takes
as long as it does, and a model of any shape can be put together from the parts of others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from thermoscope.planning.latency.work import Pass, Work

LAYERS = ("product", "attention", "moved", "kernel")  # kinds that layers are made of
Points = Sequence[tuple[float, float]]  # rows, seconds


@dataclass(frozen=True)
class Costs:
    """Seconds by rows, rising, of one precision on one machine.

    - `decode`, `prefill`: where every sequence has one new token, and where one sequence has many; of each
      kind of `LAYERS`: a weight that all rows meet, an operation of attention, a byte moved, a kernel.
    - `head`: a weight of the output projection, by rows that get logits. `sampling`: a logit, and `draw`: all
      draws of a step, whatever the vocabulary, by the same.
    - `python`: a step between its parts, by answers at once. `request`: a request of one step, the same.
    """

    decode: Mapping[str, Points]
    prefill: Mapping[str, Points]
    head: Points
    sampling: Points
    draw: Points
    python: Points
    request: float

    def seconds(self, work: Work, run: Pass) -> tuple[float, float]:
        """Of all of a component in a pass: of its work, and of its kernels."""
        if work.name == "head":
            return work.count * amount(work) * at(self.head, work.rows), 0.0
        if work.kind == "sampling":
            rows = run.batch * run.outputs
            return work.count * amount(work) / run.activations * at(self.sampling, rows), at(self.draw, rows)
        table = self.decode if run.new == 1 else self.prefill
        each = amount(work) * at(table[kind(work)], run.rows)
        return work.count * each, work.count * work.kernels * at(table["kernel"], run.rows)

    def between(self, run: Pass) -> float:
        """What a pass takes beside its components. Of a prompt, its last piece stands for the request."""
        if run.reading and run.outputs:
            return self.request
        return at(self.python, run.batch)


def kind(work: Work) -> str:
    """Which of `LAYERS` a component of the layers costs like."""
    return work.kind if work.kind in ("product", "attention") else "moved"


def amount(work: Work) -> float:
    """One of a component, in the unit of its kind: weights that every row meets, operations, or bytes."""
    if work.kind == "product":
        return work.flops / (2 * work.rows)
    return work.flops if work.kind == "attention" else work.bytes


def at(points: Points, rows: float) -> float:
    """Between two points the straight line, and beyond the ends the nearest one's."""
    if len(points) == 1:
        return points[0][1]
    low, high = next((pair for pair in pairwise(points) if rows <= pair[1][0]), tuple(points[-2:]))
    slope = (high[1] - low[1]) / (high[0] - low[0])
    if rows < low[0]:
        return low[1]
    return max(0.0, low[1] + slope * (rows - low[0]))
