"""The memory cut to a budget half way through the reasoning, in several ways, and what the rest then costs.

What is evicted is hidden from every token after the cut; no position moves. Of heavy hitters each layer keeps
its own: half the budget recent slots, half those that were given most attention until then (Zhang et al.
2023, "H2O", which does so for every head). Sinks and recent slots: Xiao et al. 2023, "StreamingLLM".
"""

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from thermoscope.instruments._suppression import NOTHING_FOUND
from thermoscope.instruments.shape.figure import Figure, axes, bars
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.models.intervention import Suppress

if TYPE_CHECKING:
    from thermoscope.instruments._rerun import Rerun
    from thermoscope.instruments.shape.lab import Lab

DRAWS = 5  # random memories of a budget
RANDOM = "random"
EVICTION = (
    Column("kept", "Slots that are kept, of those before the cut", "slots"),
    Column("policy", "Which"),
    Column("delta", "Change of −log p of the tokens after the cut", "nats a token", ".4f"),
    Column("answer", "Change of log P(answer)", "nats", ".3f"),
    Column("verdict", "The first, beside the range of the random memories of that size"),
)


def evict(lab: "Lab", run: "Rerun", cut: int, sinks: int, keep: float, seed: int) -> Reading:
    """Recent slots, sinks and recent, heavy hitters, random ones, all but a step; at two budgets.

    `cut`: the index of the first token that reads what is kept. `keep`: the share of the second budget; the
    first is what is left without the longest step before the cut.
    """
    steps = [step for step in run.chain.steps if step.end <= cut]
    longest = max(steps, key=lambda step: len(step.tokens))
    dice = np.random.default_rng(seed)
    received = run.look.received[:, :cut].numpy()
    without, share = cut - len(longest.tokens), max(sinks + 1, round(keep * cut))
    plans: list[tuple[int, str, list[Suppress]]] = []
    for kept in dict.fromkeys((max(without, sinks + 1), share)):
        plans += [
            (kept, "recent", _without(run, cut, range(cut - kept))),
            (kept, f"{sinks} sinks and recent", _without(run, cut, range(sinks, cut - kept + sinks))),
            (kept, "heavy hitters and recent", _heavy(run, received, kept)),
        ]
        plans += [
            (kept, RANDOM, _without(run, cut, dice.permutation(cut)[kept:].tolist())) for _ in range(DRAWS)
        ]
        if kept == without:
            name = f"all but step {run.chain.steps.index(longest) + 1}"
            plans.append((kept, name, _without(run, cut, longest.tokens)))
    found = []
    for kept, policy, hidden in lab.track("evicting", plans):
        effect = run.changed(hidden, first=cut, what="evicting")
        found.append((kept, policy, _loss(run, effect.logprobs, cut), effect.answer - run.answer))
    everything = run.changed(_without(run, cut, [len(run.chain.prompt) - 1], layers=()), first=cut)
    rows = _rows(found)
    worst = max(rows, key=lambda row: float(str(row[2])))
    half = {str(row[1]): float(str(row[2])) for row in rows if row[0] == share}
    return Reading(
        findings=[
            f"With {share} of {cut} slots kept, the rest costs {half['recent']:+.3f} nats a token where only "
            f"recent slots stay, {half[f'{sinks} sinks and recent']:+.3f} with {sinks} of them sinks, "
            f"{half['heavy hitters and recent']:+.3f} with heavy hitters, {half[RANDOM]:+.3f} with random "
            "ones."
        ],
        tables=[Table("eviction", "The memory cut to a budget after half of the steps", EVICTION, rows)],
        figures=[
            Figure(
                "eviction",
                "What the tokens after the cut cost more",
                [
                    bars(
                        [str(row[1]) for row in rows if row[0] == kept],
                        [row[2] for row in rows if row[0] == kept],
                        f"{kept} of {cut} slots",
                    )
                    for kept in dict.fromkeys(row[0] for row in rows)
                ],
                axes("what is kept", "nats a token", barmode="group"),
            )
        ],
        checks=[
            Check(
                "keeping everything costs nothing",
                "a second pass from the cut on, a slot hidden in no layer: largest change of a token's log p",
                float(np.abs(everything.logprobs - run.logprobs).max()),
                lab.tie,
            )
        ],
        notes=[] if float(str(worst[2])) > 0 else ["No way to cut the memory made the rest less likely."],
    )


def _rows(found: list[tuple[int, str, float, float]]) -> list[tuple[Cell, ...]]:
    """A line for each way, the random ones as their mean."""
    rows: list[tuple[Cell, ...]] = []
    for kept, policy in dict.fromkeys((each[0], each[1]) for each in found):
        here = [each for each in found if each[:2] == (kept, policy)]
        others = [each[2] for each in found if each[:2] == (kept, RANDOM)]
        delta, answer = (float(np.mean([each[at] for each in here])) for at in (2, 3))
        verdict = None
        if policy != RANDOM:
            low, high = min(others), max(others)
            verdict = "better" if delta < low else "worse" if delta > high else NOTHING_FOUND
        rows.append((kept, policy, delta, answer, verdict))
    return rows


def _without(
    run: "Rerun", cut: int, gone: Collection[int], layers: Collection[int] | None = None
) -> list[Suppress]:
    return [Suppress(gone, range(cut, len(run.chain.tokens)), layers)]


def _heavy(run: "Rerun", received: Float[np.ndarray, "layers cut"], kept: int) -> list[Suppress]:
    """What each layer does not keep."""
    cut = received.shape[1]
    old = cut - kept // 2  # what is not recent
    gone = np.argsort(-received[:, :old], axis=1, kind="stable")[:, kept - kept // 2 :]
    return [each for layer, slots in enumerate(gone) for each in _without(run, cut, slots.tolist(), [layer])]


def _loss(run: "Rerun", logprobs: Float[np.ndarray, "tokens-1"], cut: int) -> float:
    """What the tokens cost more that a token after the cut predicts."""
    return float((run.logprobs - logprobs)[cut:].mean())
