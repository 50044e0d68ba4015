"""Who reads what: attention from step to step, by all heads, by receiver heads, and by what it moves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from thermoscope.instruments._looking import BEFORE
from thermoscope.instruments.shape.figure import Figure, axes, escaped
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table, joined
from thermoscope.laws import attention

if TYPE_CHECKING:
    from thermoscope.instruments._rerun import Rerun

RECEIVERS = 20  # heads, as in Thought Anchors
FAR = 4  # steps: what is nearer is read for being near
FEWEST = attention.LEAST + 1  # steps: the last has nobody behind it
FAINT = 1e-4  # the least attention on the logarithmic scale
SHARES = 1e-4  # a row of attention in float32, summed over groups
WHERE = (
    Column("step", "Who reads"),
    Column("sinks", "Attention given to the first tokens of all", "share", ".3f"),
    Column("prompt", "… to the rest of the prompt", "share", ".3f"),
    Column("earlier", "… to earlier steps", "share", ".3f"),
    Column("own", "… to its own tokens", "share", ".3f"),
    Column("moved_sinks", "The same by the length of what it moves, α‖v W_O‖: sinks", "share", ".3f"),
    Column("moved_prompt", "… the rest of the prompt", "share", ".3f"),
    Column("moved_earlier", "… earlier steps", "share", ".3f"),
    Column("moved_own", "… its own tokens", "share", ".3f"),
    Column("reads_most", "The earlier step that it gives most attention a token; None for the first"),
)
READS = (
    Column("reader", "The step that reads"),
    Column("read", "The step that is read"),
    Column("attention", "Attention a token to a token, mean over layers and heads", "share"),
    Column(
        "receivers", "The same by receiver heads; None where there are too few steps to find any", "share"
    ),
    Column("moved", "The share of all that is moved into the reader, mean over layers and heads", "share"),
)
HEADS = (
    Column("layer", "Layer"),
    Column("head", "Head"),
    Column("kurtosis", "Of the vertical scores: how much one step stands out", form=".2f"),
    Column("step", "The step that it reads most from afar"),
    Column("score", "That step's vertical score: mean attention a token to a token", "share"),
)
ONE = (
    Column("layer", "Layer"),
    Column("head", "Head; None for the mean over the layer's"),
    Column("reader", "The step that reads"),
    Column("read", "The step that is read; 0 is the prompt without its sinks, −1 the sinks"),
    Column("share", "Of its attention, how much goes there", "share", ".4f"),
    Column("moved", "The same by the length of what it moves", "share", ".4f"),
)

Square = Float[np.ndarray, "*heads steps steps"]


def between(given: Float[np.ndarray, "*heads groups groups"], sizes: Sequence[int]) -> Square:
    """What a token of each step gives to a token of each step on average, from what groups give to groups."""
    steps = slice(BEFORE, -1)
    shared: Square = given[..., steps, steps] / np.array(sizes[steps])
    return shared


def far(steps: int) -> int:
    """How many steps behind counts as far: four, or less where few steps are so far apart."""
    return max(1, min(FAR, steps - attention.LEAST))


def vertical(run: "Rerun") -> Float[np.ndarray, "layers heads seen"]:
    """Each head's vertical scores."""
    own = between(run.look.given.numpy(), run.look.sizes)
    return attention.vertical(own, far(own.shape[-1]))


def receivers(kurtosis: Float[np.ndarray, "layers heads"]) -> list[tuple[int, int]]:
    """Layer and head of those whose vertical scores are most uneven, the most uneven first."""
    order = np.argsort(-kurtosis, axis=None, kind="stable")[:RECEIVERS]
    return [(int(each) // kurtosis.shape[1], int(each) % kurtosis.shape[1]) for each in order]


def read_by(run: "Rerun", layer: int | None, head: int | None) -> Reading:
    """Attention between steps, sinks apart; of one layer or head, too, if asked."""
    parts = [_between(run)]
    if layer is not None:
        parts.append(_one(run, layer, head))
    return joined(*parts)


def _between(run: "Rerun") -> Reading:
    look, steps = run.look, len(run.chain.steps)
    given, moved = look.given.numpy(), look.moved.numpy()
    all_given, all_moved = given.mean((0, 1)), moved.mean((0, 1))
    own = between(given, look.sizes)
    mean = own.mean((0, 1))
    chosen: list[tuple[int, int]] = []
    heads: list[tuple[Cell, ...]] = []
    notes: list[str] = []
    if steps >= FEWEST:
        scores = vertical(run)
        kurtosis = attention.kurtosis(scores)
        chosen = receivers(kurtosis)
        for place in chosen:
            best = int(scores[place].argmax())
            heads.append((*place, float(kurtosis[place]), best + 1, float(scores[place][best])))
        if far(steps) < FAR:
            notes.append(
                f"With {steps} steps, receiver heads are found by what comes from {far(steps)} or more "
                f"steps later, not {FAR}."
            )
        count = scores.shape[-1]
        notes.append(
            f"A head's kurtosis is of {count} scores, and so at most {count - 5 + 1 / (count - 1):.2f}, "
            "where it reads one step alone."
        )
    else:
        notes.append(f"With {steps} steps there are too few for receiver heads, which take {FEWEST}.")
    by_receivers = np.mean([own[place] for place in chosen], axis=0) if chosen else None
    pairs = [(i, j) for i in range(steps) for j in range(i + 1)]
    rows: list[tuple[Cell, ...]] = [
        (
            i + 1, j + 1, float(mean[i, j]), None if by_receivers is None else float(by_receivers[i, j]),
            float(all_moved[BEFORE + i, BEFORE + j]),
        )
        for i, j in pairs
    ]  # fmt: skip
    maps = [("attention", "all heads", mean)]
    if by_receivers is not None:
        maps.append(("receivers", f"the {len(chosen)} receiver heads", by_receivers))
    maps.append(("moved", "by the length of what is moved", all_moved[BEFORE:-1, BEFORE:-1]))
    sinks, moved_sinks = (each[BEFORE:-1, 0].mean() for each in (all_given, all_moved))
    findings = [
        f"{100 * sinks:.0f}% of the steps' attention goes to the {look.sizes[0]} sinks, and it is "
        f"{100 * moved_sinks:.0f}% of what attention moves: attention on a sink carries little."
        if moved_sinks < sinks
        else f"{100 * sinks:.0f}% of the steps' attention goes to the {look.sizes[0]} sinks, "
        f"{100 * moved_sinks:.0f}% of what attention moves."
    ]
    if heads:
        findings.append(
            f"The head that singles out a step most is layer {chosen[0][0]}, head {chosen[0][1]} (kurtosis "
            f"{float(str(heads[0][2])):.3g}): later steps read step {heads[0][3]}."
        )
    return Reading(
        findings=findings,
        tables=[
            Table("where", "Where each step's attention goes", WHERE, _where(all_given, all_moved, mean)),
            Table("receivers", "Heads that read some steps more than others, from afar", HEADS, heads),
            Table("reads", "From step to step", READS, rows, detail=True),
        ],
        figures=[_map(f"reads-{name}", f"Attention between steps: {of}", each) for name, of, each in maps],
        checks=[
            Check(
                "Σ attention = 1",
                "all that a token of each group gives, in every layer and head; and by what it moves",
                float(max(np.abs(each[..., 1:, :].sum(-1) - 1).max() for each in (given, moved))),
                SHARES,
            )
        ],
        notes=notes,
    )  # fmt: skip


def _where(given: Square, moved: Square, mean: Square) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for i in range(len(mean)):
        at = BEFORE + i
        shares = [
            float(share)
            for each in (given[at], moved[at])
            for share in (each[0], each[1], each[BEFORE:at].sum(), each[at])
        ]
        rows.append((i + 1, *shares, int(mean[i, :i].argmax()) + 1 if i else None))
    return rows


def _one(run: "Rerun", layer: int, head: int | None) -> Reading:
    """One layer's attention, of one head or all of its heads on average."""
    look, steps = run.look, len(run.chain.steps)
    given, moved = (
        each[layer].mean(0).numpy() if head is None else each[layer, head].numpy()
        for each in (look.given, look.moved)
    )
    rows: list[tuple[Cell, ...]] = [
        (layer, head, i + 1, j - 1, float(given[BEFORE + i, j]), float(moved[BEFORE + i, j]))
        for i in range(steps)
        for j in range(BEFORE + i + 1)
    ]
    which = f"layer {layer}" if head is None else f"layer {layer}, head {head}"
    figures = [_map("head-steps", f"Attention between steps: {which}", given[BEFORE:-1, BEFORE:-1])]
    if look.map is not None:
        names = [f"{at} {escaped(run.decode([token]))!r}" for at, token in enumerate(run.chain.tokens)]
        z = np.log10(np.maximum(look.map.numpy(), FAINT)).tolist()
        trace = {"type": "heatmap", "x": names, "y": names, "z": z, "colorscale": "Blues"}
        figures.append(
            Figure(
                "head", f"Attention, log10: {which}", [trace],
                axes("token that is read", "token that reads", yaxis={"autorange": "reversed"}),
            )
        )  # fmt: skip
    return Reading(tables=[Table("head", f"Where attention goes: {which}", ONE, rows)], figures=figures)


def _map(name: str, title: str, z: Square) -> Figure:
    """Steps that read from above down, steps that are read from left to right."""
    count = len(z)
    shown = [[float(z[i, j]) if j <= i else None for j in range(count)] for i in range(count)]
    numbers = list(range(1, count + 1))
    trace = {"type": "heatmap", "x": numbers, "y": numbers, "z": shown, "colorscale": "Blues"}
    return Figure(
        name, title, [trace],
        axes(
            "step that is read", "step that reads", xaxis={"dtick": 1},
            yaxis={"autorange": "reversed", "dtick": 1},
        ),
    )  # fmt: skip
