"""What five engines keep at the same settings: of the next token, and along a text."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from thermoscope.instruments._passage import Passage
from thermoscope.instruments.shape.figure import Figure, axes, escaped, line
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table, joined
from thermoscope.laws import boltzmann, truncation
from thermoscope.laws.filters import Filters
from thermoscope.laws.profiles import PROFILES, Profile, Stage

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

Members = Int[np.ndarray, "kept"]

HERE = "openai"  # the profile that Thermoscope itself speaks by
ENGINES = (
    Column("engine", "Whose order and edges"),
    Column("chain", "Its stages, and how many tokens each leaves of the next token"),
    Column("kept", "What it may say next", "tokens"),
    Column("mass", "Probability of these at T, of the whole distribution", form=".4f"),
    Column("top", "Probability of the best token, as it is drawn", form=".4f"),
    Column("mean_kept", "Tokens that it keeps, mean along the text", "tokens"),
    Column("differs", "Positions of the text where its set is not openai's", "positions"),
)
STAGES = (
    Column("engine", "Whose order and edges"),
    Column("stage", "What cuts"),
    Column("kept", "What it leaves of the next token", "tokens"),
    Column("removed", "Share of the probability before it that it cuts off", form=".6f"),
)
TOKENS = (
    Column("token", "The token's text", form="r"),
    Column("id", "Its id"),
    Column("probability", "P at T", form=".6f"),
)
PLACES = (
    Column("position", "Place in the text, from 0"),
    Column("context", "The words before it", form="r"),
)


class Counts(NamedTuple):
    """What the engines keep at one position: how many tokens each, and whether another set than `HERE`."""

    kept: tuple[int, ...]
    differs: tuple[bool, ...]


def engines(
    lab: "Lab", passage: Passage, z: Float[np.ndarray, "vocab"], filters: Filters, most: int
) -> Reading:
    """The sets side by side. `z`: logits of the next token; `most`: rows of tokens that are shown."""
    stages = {name: profile.apply(z, filters) for name, profile in PROFILES.items()}
    along = [_counts(row, filters) for row in passage.rows(lab)]
    return joined(
        _side_by_side(z, filters, stages, along),
        _tokens(lab, z, filters, stages, most),
        _positions(passage.contexts(lab), along),
    )


def by_hand(z: Float[np.ndarray, "vocab"], temperature: float, filters: Filters) -> Members:
    """Top-k, the nucleus of what is left, then min-p, at T > 0, from a sort of the whole vocabulary."""
    order = np.lexsort((np.arange(len(z)), -z))[: filters.top_k or None]
    with np.errstate(over="ignore"):  # at a tiny T, to -inf, whose p is 0
        p = np.exp((z[order] - z[order[0]]) / temperature)
    p /= p.sum()
    reached = np.cumsum(p) >= filters.top_p * (1 - truncation.EQUAL)
    count = len(p) if filters.top_p == 1 else int(reached.argmax()) + 1
    near = p >= filters.min_p * p[0] * (1 - truncation.EQUAL)
    kept: Members = order[:count][near[:count]]
    return kept


def cutting(filters: Filters, profiles: Iterable[Profile]) -> list[str]:
    """The settings by which at least one of the engines cuts: llama.cpp takes a top-n-sigma of 0 for off."""
    running = [profile.active(filters).values() for profile in profiles]
    return [param for param in filters.active.values() if any(param in each for each in running)]


def _counts(z: Float[np.ndarray, "vocab"], filters: Filters) -> Counts:
    sets = {}
    for name, profile in PROFILES.items():
        *_, last = profile.cuts(z, filters)
        sets[name] = np.arange(len(z)) if last.members is None else last.members
    here = sets[HERE]
    return Counts(
        tuple(len(each) for each in sets.values()),
        tuple(not np.array_equal(each, here) for each in sets.values()),
    )


def _side_by_side(
    z: Float[np.ndarray, "vocab"],
    filters: Filters,
    stages: Mapping[str, Sequence[Stage]],
    along: Sequence[Counts],
) -> Reading:
    """How many tokens each engine keeps, through which stages."""
    p = boltzmann.probabilities(z, filters.temperature)
    mean = np.mean([each.kept for each in along], axis=0)
    differs = np.sum([each.differs for each in along], axis=0)
    rows: list[tuple[Cell, ...]] = []
    for at, (name, every) in enumerate(stages.items()):
        last = every[-1]
        chain = " → ".join(f"{stage.name} {len(stage.kept)}" for stage in every)
        rows.append(
            (
                name, chain, len(last.kept), float(p[last.kept].sum()), float(np.exp(last.logprobs.max())),
                float(mean[at]), int(differs[at]),
            )
        )  # fmt: skip
    sets = {name: np.sort(every[-1].kept) for name, every in stages.items()}
    sizes = [
        f"{len(sets[names[0]]):,} in {', '.join(names)}"
        for names in _alike({name: each.tobytes() for name, each in sets.items()})
    ]
    asked = [
        f"T = {filters.temperature:g}",
        *(f"{param} = {getattr(filters, param):g}" for param in cutting(filters, PROFILES.values())),
    ]
    findings = [f"Next tokens kept at {', '.join(asked)}: {'; '.join(sizes)}."]
    for row in rows:
        if row[-1]:
            findings.append(
                f"Along the text {row[0]} keeps other tokens than {HERE} at {row[-1]} of {len(along)} "
                f"positions: {row[-2]:.4g} on average, where {HERE} keeps {rows[0][-2]:.4g}."
            )
    return Reading(
        findings=findings,
        tables=[
            Table("engines", "The same settings on five engines", ENGINES, rows),
            Table(
                "stages",
                "What each stage of each engine removes",
                STAGES,
                [
                    (name, stage.name, len(stage.kept), stage.removed)
                    for name, every in stages.items()
                    for stage in every
                ],
                detail=True,
            ),
        ],
        checks=[_checked(z, filters, stages)],
        notes=["The engines get these settings and no others: their own defaults are left out."],
    )


def _checked(z: Float[np.ndarray, "vocab"], filters: Filters, stages: Mapping[str, Sequence[Stage]]) -> Check:
    """Two of the engines by another way: T before all filters, and after them."""
    residual = 0
    for name, temperature in ((HERE, filters.temperature or 1.0), ("llama.cpp", 1.0)):
        expected = by_hand(z, temperature, filters)[: 1 if filters.temperature == 0 else None]
        residual += len(set(expected.tolist()) ^ set(stages[name][-1].kept.tolist()))
    return Check(
        f"sets of {HERE} and llama.cpp = a full sort, cut by hand",
        "tokens that are in one of two sets only",
        residual,
        0,
    )


def _tokens(
    lab: "Lab",
    z: Float[np.ndarray, "vocab"],
    filters: Filters,
    stages: Mapping[str, Sequence[Stage]],
    most: int,
) -> Reading:
    """The next tokens that only some engines keep."""
    sets = [set(every[-1].kept.tolist()) for every in stages.values()]
    some = sorted(set.union(*sets) - set.intersection(*sets), key=lambda token: (-z[token], token))
    if not some:
        return Reading()
    p, piece = boltzmann.probabilities(z, filters.temperature), lab.model.tokenizer.piece
    return Reading(
        tables=[
            Table(
                "disputed",
                f"Next tokens that only some engines keep: {min(most, len(some))} of {len(some)}, best first",
                [*TOKENS, *(Column(name, f"Whether {name} keeps it") for name in stages)],
                [
                    (piece(token), token, float(p[token]), *(token in each for each in sets))
                    for token in some[:most]
                ],
            )
        ]
    )


def _positions(contexts: Sequence[str], along: Sequence[Counts]) -> Reading:
    """The positions of the text where the engines keep different sets."""
    places = [at for at, each in enumerate(along) if any(each.differs)]
    if not places:
        return Reading()
    furthest = max(places, key=lambda at: max(along[at].kept) / min(along[at].kept))
    counts = {name: [each.kept[at] for each in along] for at, name in enumerate(PROFILES)}
    sizes = [
        f"{counts[names[0]][furthest]:,} in {', '.join(names)}"
        for names in _alike({name: each[furthest] for name, each in counts.items()})
    ]
    return Reading(
        findings=[f"They are furthest apart after {contexts[furthest]!r}: {'; '.join(sizes)}."],
        tables=[
            Table(
                "differing",
                "Positions of the text where the engines keep different sets",
                [*PLACES, *(Column(name, f"Tokens that {name} keeps", "tokens") for name in PROFILES)],
                [(at, contexts[at], *along[at].kept) for at in places],
                detail=True,
            )
        ],
        figures=[
            Figure(
                "engines",
                "How many tokens each engine keeps along the text",
                [
                    line(
                        range(len(along)),
                        counts[names[0]],
                        ", ".join(names),
                        text=list(map(escaped, contexts)),
                    )
                    for names in _alike({name: tuple(each) for name, each in counts.items()})
                ],
                axes("position", "tokens", yaxis={"type": "log", "dtick": "D2"}),
            )
        ],
    )


def _alike(kept: Mapping[str, Hashable]) -> list[list[str]]:
    """The engines, those together that keep the same."""
    groups: dict[Hashable, list[str]] = {}
    for name, what in kept.items():
        groups.setdefault(what, []).append(name)
    return list(groups.values())
