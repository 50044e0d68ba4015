"""The size of the nucleus along a text, against the fixed k that keeps as many tokens on average."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from thermoscope.instruments._passage import Passage
from thermoscope.instruments.shape.figure import Figure, axes, escaped, line
from thermoscope.instruments.shape.reading import EXACT, Check, Column, Reading, Table, joined
from thermoscope.laws import boltzmann, truncation

if TYPE_CHECKING:
    from thermoscope.engine.trace import Record
    from thermoscope.instruments.shape.lab import Lab

FILTERS = (
    Column("filter", "What cuts"),
    Column("mean_size", "Tokens that it keeps, mean over the positions", "tokens"),
    Column("mass_mean", "Probability that it keeps, mean over the positions", form=".4f"),
    Column("mass_min", "The least of them", form=".4f"),
    Column("mass_sd", "Their standard deviation", form=".4f"),
    Column("cuts_more", "Positions where it cuts off more than 1 − p", "positions"),
    Column("keeps_more", "Positions where it keeps tokens that the nucleus would not", "positions"),
)
QUANTILES = (
    Column("quantile", "Share of the positions whose nucleus is at most this large", form=".2f"),
    Column("size", "|V(p)|", "tokens"),
)
QUANTILES_AT = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
PLACE = (
    Column("position", "Place in the text, from 0"),
    Column("context", "The words before it", form="r"),
    Column("token", "The token that followed", form="r"),
    Column("size", "|V(p)|", "tokens"),
    Column("entropy", "S at the temperature", "nats", ".4f"),
    Column("top_probability", "Probability of the best token", form=".4f"),
)
CONTEXTS = (Column("shape", "Whether it is one of the flattest or the sharpest"), *PLACE)
POSITIONS = (
    *PLACE,
    Column("mass", "Probability of V(p)", form=".4f"),
    Column("top_k_mass", "Probability that the fixed k keeps", form=".4f"),
    Column("inside", "Whether the token that followed is in V(p)"),
)
EXTREMES = 3  # contexts named at each end


class Place(NamedTuple):
    """One position of a text: what the nucleus is there.

    - `size`, `mass`: |V(p)| and its probability.
    - `excess`: how far V(p) is from being the smallest set; 0 if it is.
    - `entropy`, `top`: of the whole distribution at the temperature, and of its best token.
    - `inside`: whether the text's own token is in V(p).
    - `recorded`: how far the engine's record is from being right here; 0 where there is none.
    """

    size: int
    mass: float
    excess: float
    entropy: float
    top: float
    inside: bool
    recorded: float


def flexibility(lab: "Lab", passage: Passage, p: float, temperature: float) -> Reading:
    """V(p) at every token of the text, and the k of the same mean size."""
    trace = passage.trace
    records = [None] * len(passage.text) if trace is None else [step.record for step in trace.steps]
    places = [
        _place(z, token, p, temperature, record)
        for z, token, record in zip(passage.rows(lab), passage.text, records, strict=True)
    ]
    k = equal_k([place.size for place in places])
    # A second pass over the text: k is known only now, and all logits of a long one would fill the memory.
    masses = [float(greatest(boltzmann.probabilities(z, temperature), k).sum()) for z in passage.rows(lab)]
    contexts = passage.contexts(lab)
    parts = [
        _filters(contexts, places, k, masses, p),
        _contexts(lab, passage, contexts, places, masses),
        Reading(notes=passage.notes),
    ]
    if trace is not None:
        recorded = Check(
            "recorded set = V(p)",
            "what the engine recorded at each step, tokens and mass, against the law at the replay's logits",
            max(place.recorded for place in places),
            lab.tie_of_sets(temperature),
        )
        parts.append(Reading(checks=[recorded, lab.replayed([trace])]))
    return joined(*parts)


def equal_k(sizes: Sequence[int]) -> int:
    """The whole number nearest to the mean of these sizes."""
    return int(np.rint(np.mean(sizes)))


def greatest(p: Float[np.ndarray, "vocab"], k: int) -> Float[np.ndarray, "k"]:
    """The probabilities of the k best tokens, k ≥ 1, in no order."""
    best: Float[np.ndarray, "k"] = np.partition(p, -k)[-k:]
    return best


def _place(
    z: Float[np.ndarray, "vocab"], token: int, top_p: float, temperature: float, record: "Record | None"
) -> Place:
    p = boltzmann.probabilities(z, temperature)
    kept = truncation.nucleus(z, top_p, temperature).ids
    mass = float(p[kept].sum())
    recorded = 0.0
    if record is not None:
        best = greatest(p, record.kept)
        recorded = max(_excess(best, top_p), abs(1 - float(best.sum()) - record.removed_mass))
    return Place(
        size=len(kept),
        mass=mass,
        excess=_excess(p[kept], top_p),
        entropy=float(boltzmann.thermodynamics(z, temperature).entropy),
        top=float(p.max()),
        inside=bool((kept == token).any()),
        recorded=recorded,
    )


def _excess(kept: Float[np.ndarray, "kept"], top_p: float) -> float:
    """How far a set with these probabilities is from being the smallest that reaches p; 0 if it is."""
    mass = float(kept.sum())
    return max(0.0, mass - float(kept.min()) - top_p, top_p - mass)


def _filters(
    contexts: Sequence[str], places: Sequence[Place], k: int, masses: Sequence[float], top_p: float
) -> Reading:
    """The nucleus and the fixed k side by side, over all positions."""
    sizes = np.array([place.size for place in places])
    reached, nuclear, fixed = (
        top_p * (1 - truncation.EQUAL),
        np.array([place.mass for place in places]),
        np.array(masses),
    )
    short = fixed < reached
    count, at = len(places), range(len(places))
    return Reading(
        findings=[
            f"Along {count} positions the nucleus has {sizes.min():,} to {sizes.max():,} tokens (median "
            f"{_quantile(sizes, 0.5):,}, mean {sizes.mean():,.1f}) and keeps {nuclear.min():.2%} of the "
            f"probability or more at each.",
            f"A fixed k of the same mean, {k:,}, cuts off more than {1 - top_p:.2%} at {short.sum()} "
            f"of them, up to {1 - fixed.min():.2%}, and keeps tokens that the nucleus would not at "
            f"{(sizes < k).sum()}.",
        ],
        tables=[
            Table(
                "filters",
                "The nucleus, and the fixed k of the same mean size",
                FILTERS,
                [
                    (
                        name, float(size), float(mass.mean()), float(mass.min()), float(mass.std()),
                        int((mass < reached).sum()), more,
                    )
                    for name, size, mass, more in (
                        (f"top_p = {top_p:g}", sizes.mean(), nuclear, 0),
                        (f"top_k = {k}", k, fixed, int((sizes < k).sum())),
                    )
                ],
            ),
            Table(
                "quantiles",
                "How large the nucleus is",
                QUANTILES,
                [(share, _quantile(sizes, share)) for share in QUANTILES_AT],
            ),
        ],
        figures=[
            Figure(
                "sizes",
                "The size of the nucleus along the text",
                [
                    line(
                        at, sizes.tolist(), "|V(p)|", line={"shape": "hvh"},
                        text=list(map(escaped, contexts)),
                    ),
                    line([0, count - 1], [k, k], f"k = {k}", line={"dash": "dot"}),
                ],
                axes("position", "tokens", yaxis={"type": "log", "dtick": "D2"}),
            ),
            Figure(
                "masses",
                "The probability that each keeps",
                [
                    line(at, nuclear.tolist(), f"top_p = {top_p:g}"),
                    line(at, masses, f"top_k = {k}"),
                    line([0, count - 1], [top_p, top_p], "p", line={"dash": "dot"}),
                ],
                axes("position", "probability kept"),
            ),
        ],
        checks=[
            Check(
                "V(p) is the smallest, along the text",
                "how far the sum without the last token is above p, or the sum with it below; the most",
                max(place.excess for place in places),
                EXACT,
            ),
            Check(
                "top-k cuts off more than 1 − p where k is less than the size",
                "positions where its mass says one and its size the other",
                int((short != (sizes > k)).sum()),
                0,
            ),
        ],
        notes=[
            "k is the whole number nearest to the mean size of the nucleus over the positions.",
        ],
    )  # fmt: skip


def _quantile(sizes: Int[np.ndarray, "positions"], share: float) -> int:
    """The least size that this share of the positions does not exceed."""
    return int(np.quantile(sizes, share, method="inverted_cdf"))


def _contexts(
    lab: "Lab",
    passage: Passage,
    contexts: Sequence[str],
    places: Sequence[Place],
    masses: Sequence[float],
) -> Reading:
    """Every position, and those where the distribution is flattest and sharpest."""
    piece = lab.model.tokenizer.piece
    rows = [
        (at, context, piece(token), place.size, place.entropy, place.top)
        for at, (context, token, place) in enumerate(zip(contexts, passage.text, places, strict=True))
    ]
    ranked = sorted(rows, key=lambda row: row[3:5])
    some = min(EXTREMES, -(-len(rows) // 2))
    sharp, flat = ranked[:some], ranked[::-1][:some]
    outside = sum(not place.inside for place in places)
    return Reading(
        findings=[
            f"Flattest after {flat[0][1]!r}: {flat[0][3]:,} in V(p), {flat[0][4]:.3g} nats. Sharpest after "
            f"{sharp[0][1]!r}: {sharp[0][3]:,}, {sharp[0][4]:.3g} nats.",
            *[f"{outside} of the text's {len(rows)} tokens are outside V(p)." for _ in range(outside > 0)],
        ],
        tables=[
            Table(
                "contexts",
                "The flattest and the sharpest contexts",
                CONTEXTS,
                [("flattest", *row) for row in flat] + [("sharpest", *row) for row in sharp],
            ),
            Table(
                "positions",
                "Every position of the text",
                POSITIONS,
                [
                    (*row, place.mass, mass, place.inside)
                    for row, place, mass in zip(rows, places, masses, strict=True)
                ],
                detail=True,
            ),
        ],
    )
