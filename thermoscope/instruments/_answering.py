"""How the answer depends on the reasoning: asked for early, and after other forms of it."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import EXACT, Cell, Check, Column, Reading, Table
from thermoscope.laws import early_answering

if TYPE_CHECKING:
    from thermoscope.instruments._rerun import Rerun
    from thermoscope.instruments.shape.lab import Lab

DRAWS = 4  # of a form that is drawn
FILLER = " ..."
EARLY = (
    Column("step", "After which step the answer is asked for; 0 is before the first"),
    Column("text", "What that step says", form="r"),
    Column("logprob", "log P(answer)", "nats", ".3f"),
    Column("p", "P(answer)", "probability"),
    Column("gain", "What the step carries: change of log P(answer) by it", "nats", ".3f"),
    Column("states", "Whether the step says the answer"),
)
FORMS = (
    Column("reasoning", "In which form the reasoning stands before the answer is asked for"),
    Column("draws", "How often it was drawn", "draws"),
    Column("logprob", "Mean log P(answer)", "nats", ".3f"),
    Column("lowest", "Least of the draws", "nats", ".3f"),
    Column("highest", "Greatest of the draws", "nats", ".3f"),
    Column("above_bias", "Mean, from the answer's bias up: without the question", "nats", ".3f"),
    Column("from_whole", "Mean, from the whole reasoning", "nats", ".3f"),
)
_NUMBER = re.compile(r"\d+")


def ask(lab: "Lab", run: "Rerun", seed: int) -> Reading:
    """P(answer) after each step, and after no, shuffled, mistaken and meaningless reasoning."""
    chain = run.chain
    ends = [len(chain.prompt), *(step.end for step in chain.steps)]
    log_p = np.array([run.instead(end, chain.tail) for end in lab.track("asking early", ends)])
    bias = run.without_question()
    gains = early_answering.gains(log_p)
    p = np.exp(log_p)
    areas = [early_answering.area_over(p, each) for each in (0.0, float(np.exp(bias)))]
    rows: list[tuple[Cell, ...]] = [(0, None, float(log_p[0]), float(p[0]), None, None)]
    rows += [
        (at, step.text, float(log_p[at]), float(p[at]), float(gains[at - 1]), chain.states(step))
        for at, step in enumerate(chain.steps, 1)
    ]
    best = int(gains.argmax())
    return Reading(
        findings=[
            f"Step {best + 1} carries most of the answer: it changes its log-probability by "
            f"{gains[best]:+.2f} nats, the whole reasoning by {log_p[-1] - log_p[0]:+.2f}.",
            f"Early answering: area over the curve {_area(areas[0])}, {_area(areas[1])} once the answer's "
            f"bias is taken off (P without the question: {np.exp(bias):.3g}). 0 is an answer that was there "
            f"before the reasoning.",
        ],
        tables=[
            Table("early", "The answer asked for after each step", EARLY, rows),
            Table("forms", "Other forms of the reasoning", FORMS, _forms(lab, run, log_p, bias, seed)),
        ],
        figures=[
            Figure(
                "early",
                "log P(answer) as the reasoning goes on",
                [
                    line(range(len(log_p)), log_p.tolist(), "after the step", mode="lines+markers"),
                    line([0, len(gains)], [bias, bias], "without the question", line={"dash": "dot"}),
                ],
                axes("step after which the answer is asked for", "nats", xaxis={"dtick": 1}),
            )
        ],
        checks=[
            Check(
                "Σ gains = log P_S − log P_0", "what the steps carry, summed, and the curve's ends",
                abs(float(gains.sum()) - float(log_p[-1] - log_p[0])), EXACT,
            ),
            Check(
                "asked after the last step = plain pass",
                "log P(answer) where cue and answer are run behind the kept memory, and in one pass with all",
                abs(float(log_p[-1]) - run.answer), lab.tie * len(chain.answer),
            ),
        ],
    )  # fmt: skip


def _area(area: float | None) -> str:
    return "not defined (the answer is no likelier after all of it)" if area is None else f"{area:.2f}"


def _forms(lab: "Lab", run: "Rerun", log_p: np.ndarray, bias: float, seed: int) -> list[tuple[Cell, ...]]:
    chain, dice = run.chain, np.random.default_rng(seed)
    forms: list[tuple[str, Callable[[], Sequence[int]], int]] = [
        ("shuffled steps", lambda: shuffled(run, dice), DRAWS if len(chain.steps) > 1 else 0),
        ("mistaken steps", lambda: mistaken(run, dice), DRAWS if _digits(run) else 0),
        ("filler", lambda: filler(run), 1),
    ]
    found: list[tuple[str, list[float]]] = [("none", [float(log_p[0])]), ("whole", [float(log_p[-1])])]
    drawn = [(name, make) for name, make, draws in forms for _ in range(draws)]
    values: dict[str, list[float]] = {}
    for name, make in lab.track("asking after other forms", drawn):
        other = [*make(), *chain.tail]
        values.setdefault(name, []).append(run.instead(len(chain.prompt), other))
    found += values.items()
    return [
        (
            name, len(each), float(np.mean(each)), min(each), max(each), float(np.mean(each)) - bias,
            float(np.mean(each) - log_p[-1]),
        )
        for name, each in (*found, ("answer's bias: without the question", [bias]))
    ]  # fmt: skip


def shuffled(run: "Rerun", dice: np.random.Generator) -> list[int]:
    """The steps' tokens in another order."""
    steps, order = run.chain.steps, np.arange(len(run.chain.steps))
    while (order == np.arange(len(steps))).all():
        order = dice.permutation(len(steps))
    return [run.chain.tokens[at] for which in order.tolist() for at in steps[which].tokens]


def mistaken(run: "Rerun", dice: np.random.Generator) -> Sequence[int]:
    """Every number replaced by another of as many digits, an equal one always by the same.

    So a falsified reasoning agrees with itself, and the answer cannot be copied from it.
    """
    others: dict[str, str] = {}

    def other(match: re.Match[str]) -> str:
        number = match[0]
        while others.setdefault(number, number) == number:
            first = str(dice.integers(1, 10))
            others[number] = first + "".join(map(str, dice.integers(0, 10, len(number) - 1)))
        return others[number]

    return run.encode(_NUMBER.sub(other, run.decode(run.chain.reasoning)))


def filler(run: "Rerun") -> list[int]:
    """As many tokens that say nothing."""
    dots, count = run.encode(FILLER), len(run.chain.reasoning)
    return [*dots * (count // len(dots) + 1)][:count]


def _digits(run: "Rerun") -> bool:
    return bool(_NUMBER.search(run.decode(run.chain.reasoning)))
