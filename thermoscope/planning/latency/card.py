r"""The card's own formula with its own numbers, beside what is counted exactly.

$$T = T_{pos} + N (T_{attn} + T_{ffn} + T_{ln}) + T_{ln} + T_{proj}$$

$T_{pos} = O(sd)$, $T_{attn} = O(sdh)$, $T_{ffn} = O(sd \cdot 4d)$, $T_{ln} = O(sd)$, $T_{proj} = O(sdv)$ with
$N = 32$ layers, $s = 512$ tokens, $d = 4096$, $h = 32$ heads, $v = 32{,}000$: the numbers that the card gives
for a Llama of 8 billion parameters. A term without its constant is a count of something; none is a time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from thermoscope.catalogue.architecture import Architecture
from thermoscope.planning.latency.roofline import Timed

WIDENING = 4
_PLACES = {
    "positions": ("rotary", "position table"),
    "attention": ("qkv", "o", "attention"),
    "feed-forward": ("router", "gate and up", "up", "activation", "down"),
    "norms": ("norms", "residual", "final norm"),
    "projection": ("head",),
}


@dataclass(frozen=True)
class Term:
    """One term of the card.

    - `card`: its value with the card's own numbers, all layers together; `model`: with this model's.
    - `flops`, `bytes`, `seconds`: what that part of this model really does in the pass.
    - `differs`: how the card's form and the exact one part ways.
    """

    name: str
    form: str
    card: float
    model: float
    flops: float
    bytes: float
    seconds: float
    differs: str


class Numbers(NamedTuple):
    """What the card's formula is evaluated with."""

    layers: int
    tokens: int
    hidden: int
    heads: int
    vocab: int

    def values(self) -> dict[str, tuple[str, int]]:
        """Each term's order, and its value."""
        stream = self.tokens * self.hidden
        return {
            "positions": ("s·d", stream),
            "attention": ("N·s·d·h", self.layers * stream * self.heads),
            "feed-forward": ("N·s·d·4d", self.layers * stream * WIDENING * self.hidden),
            "norms": ("(N+1)·s·d", (self.layers + 1) * stream),
            "projection": ("s·d·v", stream * self.vocab),
        }


CARD = Numbers(layers=32, tokens=512, hidden=4096, heads=32, vocab=32_000)


def terms(shape: Architecture, tokens: int, parts: Sequence[Timed]) -> list[Term]:
    """The card's terms for a prompt of `tokens`, with the components of its prefill."""
    ours = Numbers(shape.layers, tokens, shape.hidden, shape.heads, shape.vocab).values()
    cards = CARD.values()
    told = _differences(shape, tokens)
    found = []
    for name, (form, value) in cards.items():
        own = list(_own(name, parts))
        found.append(
            Term(
                name, form, float(value), float(ours[name][1]),
                sum(part.work.count * part.work.flops for part in own),
                sum(part.work.count * part.work.bytes for part in own),
                sum(part.seconds for part in own), told[name],
            )
        )  # fmt: skip
    return found


def _own(name: str, parts: Sequence[Timed]) -> Iterable[Timed]:
    for part in parts:
        plain = part.work.name.removeprefix("experts' ").split(",")[0]
        if plain in _PLACES[name]:
            yield part


def _differences(shape: Architecture, tokens: int) -> dict[str, str]:
    positions = {
        "rotary": "rotary: q and k are turned in every layer, and there is no table outside them",
        "learned": "a table of positions, added once",
        "alibi": "positions are a bias on attention's scores (ALiBi); there is no table",
        "none": "no positions at all",
    }
    projections = sum(each.rows * each.columns for each in shape.attention())
    looks = 2 * shape.heads * shape.head_dim * (tokens + 1) / 2
    mlp = shape.mlp(shape.layers - 1)
    inner = sum(each.rows * each.active for each in mlp if each.name.endswith("up"))
    matrices = sum(
        each.count == mlp[-1].count and each.name.split(".")[-1] in ("gate", "up", "down") for each in mlp
    )
    norm = "RMSNorm" if shape.norm == "rms" else "LayerNorm"
    return {
        "positions": positions[shape.positions],
        "attention": f"a token costs {projections:,} products for q, k, v, o and {looks:,.0f} for scores and "
        f"values at the mean context, not d·h = {shape.hidden * shape.heads:,}",
        "feed-forward": f"{matrices} matrices of width {inner:,}, not two of {WIDENING * shape.hidden:,}, 4d",
        "norms": f"{norm}, {shape.norms} in a layer, and as many sums",
        "projection": f"v is {shape.vocab:,}, and only the last token of a prompt needs logits, not all s",
    }
