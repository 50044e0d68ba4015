r"""What a step's words matter beside others that the model might have said there.

$$I_i = \log P(a \mid s_{<i}, s_i) - \frac1N \sum_n \log P(a \mid s_{<i}, s_i^{(n)})$$

$s_i^{(n)}$ are drawn by the model after the same beginning, and the answer $a$ is asked for at once. Source:
Bogdan et al. 2025, "Thought Anchors", section 3, who let the model go on to its end instead.
"""

from typing import TYPE_CHECKING

import numpy as np

from thermoscope.instruments._steps import steps
from thermoscope.instruments._suppression import NOTHING_FOUND
from thermoscope.instruments.shape.figure import Figure, axes, points
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.laws import bootstrap

if TYPE_CHECKING:
    from thermoscope.instruments._rerun import Rerun
    from thermoscope.instruments.shape.lab import Lab

LONGER = 2  # times the step's own length: where a drawn one is cut
RESAMPLED = (
    Column("step", "Which step is drawn again"),
    Column("own", "log P(answer) after it as it is", "nats", ".3f"),
    Column("others", "Mean log P(answer) after the ones drawn", "nats", ".3f"),
    Column("importance", "The difference: what its words are worth", "nats", ".3f"),
    Column("low", "95% interval of that, over the draws", "nats", ".3f"),
    Column("high", "Its upper end", "nats", ".3f"),
    Column("verdict", "Whether the interval holds 0"),
    Column("example", "One that was drawn", form="r"),
)


def resample(lab: "Lab", run: "Rerun", count: int, temperature: float, seed: int) -> Reading:
    """Every step drawn again `count` times at a temperature, and the answer asked for after each."""
    chain, rows = run.chain, list[tuple[Cell, ...]]()
    means, ends, off = [], [], []
    for number, step in enumerate(lab.track("drawing steps again", chain.steps), 1):
        before = chain.tokens[: step.first]
        length = min(LONGER * len(step.tokens), run.room - step.first - len(chain.tail))
        sampling = {"n": count, "temperature": temperature, "seed": seed + number, "max_tokens": length}
        (reply,) = lab.generate(before, [sampling])
        drawn = [_first(lab, before, trace.tokens) for trace in reply.traces]
        values = np.array([run.instead(step.first, [*each, *chain.tail]) for each in drawn])
        own = run.instead(step.end, chain.tail)
        same = run.instead(step.first, [*chain.tokens[step.first : step.end], *chain.tail])
        off.append(abs(same - own))
        low, high = bootstrap.interval(bootstrap.resampled((own - values)[:, None], seed=seed)[:, 0] / count)
        ends.append((low, high))
        means.append(own - float(values.mean()))
        rows.append(
            (
                number, own, float(values.mean()), means[-1], low, high,
                NOTHING_FOUND if low <= 0 <= high else "worth more" if low > 0 else "worth less",
                run.decode(drawn[0]),
            )
        )  # fmt: skip
    best = int(np.argmax(means))
    spread = np.abs(np.array(ends) - np.array(means)[:, None]).T.tolist()
    bars = {"type": "data", "symmetric": False, "arrayminus": spread[0], "array": spread[1]}
    return Reading(
        findings=[
            f"Drawn again, step {best + 1} is missed most: its words are worth {means[best]:.2f} nats of the "
            f"answer's log-probability ({ends[best][0]:.2f} to {ends[best][1]:.2f}; {count} draws)."
        ],
        tables=[Table("resampled", f"Each step beside {count} that the model draws there", RESAMPLED, rows)],
        figures=[
            Figure(
                "resampled",
                "What a step's words are worth beside others",
                [points(range(1, len(rows) + 1), means, "95% interval over draws", error_y=bars)],
                axes("step", "nats of log P(answer)", xaxis={"dtick": 1}),
            )
        ],
        checks=[
            Check(
                "a step drawn as it is is worth nothing",
                "log P(answer) after each step, and after its own words put in its place",
                max(off),
                lab.tie * len(chain.answer),
            )
        ],
    )


def _first(lab: "Lab", before: tuple[int, ...], drawn: tuple[int, ...]) -> list[int]:
    """The first step of what was drawn, without an end of the answer."""
    tokenizer = lab.model.tokenizer
    said = [token for token in drawn if not tokenizer.is_control(token)]
    found = steps((*before, *said), len(before), tokenizer.bytes_of)
    return said[: len(found[0].tokens)] if found else []
