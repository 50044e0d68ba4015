"""Which tokens of a prompt carry it: each one's keys and values hidden from the input that follows."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from thermoscope.instruments.shape.figure import Figure, axes, bars, ticks
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.laws import boltzmann, divergence

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

MOST, HELD = 64, 16_384  # tokens that are hidden in turn, and tokens in the caches of all these passes

CARRIERS = (
    Column("position", "Its index in the prompt"),
    Column("token", "The token that is hidden", form="r"),
    Column("kl", "KL(prompted ‖ without it)", "nats", ".4f"),
    Column("logprob", "Change of log p of the target's first token", "nats", "+.4f"),
)


def carriers(
    lab: "Lab",
    tokens: Sequence[int],
    first: int,
    prompted: Float[np.ndarray, "vocab"],
    target: int,
    top: int,
    temperature: float,
) -> Reading:
    """What hiding each token before `first` from those after it does to the next token."""
    from thermoscope.engine.batch import Batch
    from thermoscope.models.intervention import Suppress

    count = min(first, MOST, max(1, HELD // len(tokens) - 1))
    hidden, queries = range(first - count, first), range(first, len(tokens))
    lab.progress("hiding tokens", 0, 1)
    sequences = [tokens] * (count + 1)
    batch = lab.call(partial(Batch, sequences=sequences, tail=len(queries)))
    changes = [[Suppress([index], queries)] for index in hidden]
    logits = lab.call(lambda _: batch.run([[], *changes]).logits).double().numpy()
    lab.progress("hiding tokens", 1, 1)
    before = boltzmann.log_probabilities(prompted, temperature)
    after = boltzmann.log_probabilities(logits[1:], temperature)
    effects = divergence.kl(np.broadcast_to(before, after.shape), after)
    changed = after[:, target] - before[target]
    piece = lab.model.tokenizer.piece
    rows: list[tuple[Cell, ...]] = [
        (index, piece(tokens[index]), float(effects[at]), float(changed[at]))
        for at, index in enumerate(hidden)
    ]
    best = sorted(rows, key=lambda row: -float(row[2] or 0))
    notes = [
        "A hidden token is out of sight for the input's tokens only: later tokens of the prompt still saw "
        "it, and may carry what it said."
    ]
    if count < first:
        notes.append(f"Of the prompt's {first} tokens the last {count} were hidden, one at a time.")
    found = []
    if hidden[0] == 0:  # models park attention on it, whatever it says
        found.append(f"The first token, a sink of attention: without it KL is {effects[0]:.3f} nats.")
    if others := [row for row in best if row[0] != 0]:
        found.append(
            f"Of the others {others[0][1]!r} carries most: without it KL is {others[0][2]:.3f} nats."
        )
    return Reading(
        findings=found,
        tables=[
            Table("carriers", f"Prompt tokens whose hiding changes most, {min(top, count)} of {count}",
                  CARRIERS, best[:top]),
            Table("tokens_hidden", "All of them, in their order", CARRIERS, rows, detail=True),
        ],
        figures=[
            Figure(
                "carriers",
                "Which tokens of the prompt does the input read?",
                [bars(list(range(count)), [row[2] for row in rows], "KL without it")],
                axes("prompt token", "KL(prompted‖without), nats", xaxis=ticks([str(r[1]) for r in rows])),
            )
        ],
        checks=[
            Check(
                "hiding nothing changes nothing",
                "largest change of a logit with no token hidden",
                float(np.abs(logits[0] - prompted).max()),
                lab.tie,
            )
        ],
        notes=notes,
    )  # fmt: skip
