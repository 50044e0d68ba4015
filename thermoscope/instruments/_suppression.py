"""What each step matters: its keys and values hidden from all that follows, with every token where it is."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from thermoscope.instruments.shape.figure import COLOURS, Figure, axes, escaped
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.models.intervention import Suppress

if TYPE_CHECKING:
    from thermoscope.instruments._rerun import Rerun
    from thermoscope.instruments.shape.lab import Lab

NOTHING_FOUND = "no effect found"
STEPS = (
    Column("step", "The step that is hidden"),
    Column("text", "What it says", form="r"),
    Column("tokens", "Tokens that are hidden", "tokens"),
    Column("answer", "Change of log P(answer)", "nats", ".3f"),
    Column("kl_next", "Mean KL of the next step's distributions; None after the last", "nats a token", ".4f"),
    Column("kl_later", "The same of all tokens of later steps", "nats a token", ".4f"),
    Column("verdict", "Whether the answer changes by more than all controls make it"),
)
PAIRS = (
    Column("hidden", "The step that is hidden"),
    Column("later", "The step whose tokens are looked at"),
    Column("kl", "Mean KL(plain‖hidden) of the distributions before its tokens", "nats a token"),
)
CONTROLS = (
    Column("first", "Index of the first token that is hidden"),
    Column("tokens", "Tokens that are hidden, one after another", "tokens"),
    Column("answer", "Change of log P(answer)", "nats", ".3f"),
)
LEAST = 1e-6  # nats: the least KL on the logarithmic scale
STRONGEST = 24  # arrows of the picture
WITHIN = {"xref": "x", "yref": "y", "axref": "x", "ayref": "y", "showarrow": True, "text": ""}

Matrix = Float[np.ndarray, "steps steps"]


def hide(lab: "Lab", run: "Rerun", controls: int, seed: int) -> Reading:
    """Every step hidden in turn, and as controls spans of the same reasoning that begin anywhere."""
    steps, count = run.chain.steps, len(run.chain.steps)
    effects = np.full((count, count), np.nan)
    answers = []
    for number, step in enumerate(lab.track("hiding steps", steps)):
        effect = run.changed([Suppress(step.tokens)], kl=True)
        answers.append(effect.answer - run.answer)
        for later in range(number + 1, count):
            # The distribution after a token is the one that the next is drawn from.
            effects[number, later] = effect.kl[steps[later].first - 1 : steps[later].end - 1].mean()
    spans = _spans(run, controls, seed)
    others = [
        run.changed([Suppress(span)], first=run.before_answer).answer - run.answer
        for span in lab.track("hiding controls", spans)
    ]
    low, high = min(others), max(others)
    # Less than the controls' least is no effect, either.
    verdicts = [
        "costs the answer"
        if each < min(low, 0)
        else "helps the answer"
        if each > max(high, 0)
        else NOTHING_FOUND
        for each in answers
    ]
    rows: list[tuple[Cell, ...]] = [
        (
            at + 1, step.text, len(step.tokens), answers[at],
            float(effects[at, at + 1]) if at + 1 < count else None, _later(run, effects, at), verdicts[at],
        )
        for at, step in enumerate(steps)
    ]  # fmt: skip
    most = int(np.argmin(answers))
    # A pass of its own, in which this is hidden in no layer.
    nothing = run.changed([Suppress([len(run.chain.prompt) - 1], layers=())], kl=True)
    return Reading(
        findings=[
            f"Hiding step {most + 1} costs the answer most: its log-probability changes by "
            f"{answers[most]:.3f} nats. {len(others)} spans of {len(spans[0])} tokens anywhere in the "
            f"reasoning change it by {low:.3f} to {high:.3f}"
            + (f": {NOTHING_FOUND}." if verdicts[most] == NOTHING_FOUND else "."),
        ],
        tables=[
            Table("suppression", "Each step hidden from all that follows", STEPS, rows),
            Table(
                "effects", "… and what that does to each later step", PAIRS,
                [
                    (i + 1, j + 1, float(effects[i, j]))
                    for i in range(count)
                    for j in range(i + 1, count)
                ],
                detail=True,
            ),
            Table(
                "controls", "Spans that begin anywhere, hidden likewise", CONTROLS,
                [(span.start, len(span), each) for span, each in zip(spans, others, strict=True)],
                detail=True,
            ),
        ],
        figures=[_heat(effects), _cycle(run, effects, answers)],
        checks=[
            Check(
                "hiding nothing changes nothing",
                "a second pass, in which a token is hidden in no layer: change of log P(answer), largest KL",
                max(abs(nothing.answer - run.answer), float(nothing.kl.max())),
                lab.tie * len(run.chain.answer),
            )
        ],
        notes=[
            f"A span like a control lies beyond all {len(others)} of them in {2 / (len(others) + 1):.0%} of "
            f"cases: '{NOTHING_FOUND}' is where a step does no more than that."
        ],
    )  # fmt: skip


def _spans(run: "Rerun", count: int, seed: int) -> list[range]:
    """As long as a step is on average, beginning anywhere in the reasoning."""
    dice, chain = np.random.default_rng(seed), run.chain
    length = max(1, round(len(chain.reasoning) / len(chain.steps)))
    last = max(len(chain.prompt), chain.asked - length)
    return [range(int(at), int(at) + length) for at in dice.integers(len(chain.prompt), last + 1, count)]


def _later(run: "Rerun", effects: Matrix, at: int) -> float | None:
    """The mean over all later steps' tokens, from the means over each."""
    tokens = [len(step.tokens) for step in run.chain.steps[at + 1 :]]
    return float(np.average(effects[at, at + 1 :], weights=tokens)) if tokens else None


def _heat(effects: Matrix) -> Figure:
    count = len(effects)
    numbers = list(range(1, count + 1))
    z = [
        [float(np.log10(max(effects[i, j], LEAST))) if j > i else None for i in range(count)]
        for j in range(count)
    ]
    bar = {"title": {"text": "log10 KL"}}
    trace = {"type": "heatmap", "x": numbers, "y": numbers, "z": z, "colorscale": "Reds", "colorbar": bar}
    return Figure(
        "suppression",
        "What hiding a step does to later ones",
        [trace],
        axes(
            "step that is hidden", "later step", xaxis={"dtick": 1},
            yaxis={"autorange": "reversed", "dtick": 1},
        ),
    )  # fmt: skip


def _cycle(run: "Rerun", effects: Matrix, answers: list[float]) -> Figure:
    """Steps on a circle, clockwise from the top; an arrow goes from what is read to who reads it."""
    steps, count = run.chain.steps, len(run.chain.steps)
    angle = np.pi / 2 - 2 * np.pi * np.arange(count + 1) / (count + 1)
    x, y = np.cos(angle), np.sin(angle)
    arrows = [(effects[i, j], i, j) for i in range(count) for j in range(i + 1, count)]
    # The answer is one more node: what hiding a step costs it, by the size of the change.
    arrows += [(abs(change), at, count) for at, change in enumerate(answers)]
    most = {False: 0.0, True: 0.0}
    for effect, _, j in arrows:
        most[j == count] = max(most[j == count], effect)
    drawn = sorted(arrows, key=lambda arrow: arrow[0] / (most[arrow[2] == count] or 1))[-STRONGEST:]
    annotations = []
    for effect, i, j in drawn:
        share = float(effect / (most[j == count] or 1))
        tail, tip = ((0.9 * x[a] + 0.1 * x[b], 0.9 * y[a] + 0.1 * y[b]) for a, b in ((i, j), (j, i)))
        place = {"ax": float(tail[0]), "ay": float(tail[1]), "x": float(tip[0]), "y": float(tip[1])}
        line = {"arrowwidth": 0.5 + 5 * share, "opacity": 0.25 + 0.7 * share, "arrowhead": 2}
        colour = COLOURS[1] if j == count else COLOURS[0]
        annotations.append(place | line | WITHIN | {"arrowcolor": colour})
    names = [*(str(number) for number in range(1, count + 1)), "answer"]
    nodes = {
        "type": "scatter", "mode": "markers+text", "x": x.tolist(), "y": y.tolist(), "text": names,
        "textfont": {"color": "#ffffff"}, "showlegend": False,
        "marker": {"size": [30] * count + [56], "color": COLOURS[0]},
        "hovertext": [escaped(text) for text in (*(step.text for step in steps), run.chain.said)],
        "hoverinfo": "text",
    }  # fmt: skip
    blank = {"showticklabels": False, "showgrid": False, "zeroline": False, "range": [-1.25, 1.25]}
    return Figure(
        "cycle",
        "The cycle: who reads whom, and how much hiding it matters",
        [nodes],
        axes(
            "arrows: from a step to who reads it; orange: to the answer; width by effect", "",
            annotations=annotations, xaxis=blank, yaxis=blank | {"scaleanchor": "x"},
        ),
    )  # fmt: skip
