r"""Whole texts as states: two ways to temper them, which are not the same.

A step's logits have a gauge of their own, so Σ −z over a text moves with every step's constant. What does
not move is $E(y) = -\log P(y \mid x) = \sum_t (E_t - F_t)$ at T = 1, and with it

- Boltzmann's: $P_T(y) = \exp(-E(y)/T) / Z$ over the given set;
- a sampler's, token by token: $\prod_t \exp(-E_t/T) / Z_t(T) = \exp(-E(y)/T) \, / \prod_t Z_t(T)$.

They differ by the path's own $Z_t$, which is 1 at T = 1 and else depends on how flat each step was.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from thermoscope.instruments._continuation import Continuation, chain_rule, continuations, reread
from thermoscope.instruments.shape.reading import Cell, Check, Column, Reading, Table
from thermoscope.laws import boltzmann

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

SEQUENCES = (
    Column("text", "The continuation", form="r"),
    Column("tokens", "Its length", "tokens"),
    Column("energy", "E = −log P(text | prompt) = Σ (E − F) over its tokens, at T = 1", "nats", ".4f"),
    Column("logprob_per_token", "−E for each token", "nats a token", ".4f"),
    Column(
        "raw_energy",
        "Σ −z over its tokens. Gauge-dependent: c added to the logits moves it by −c a token, so that even "
        "the order of texts of different lengths is the gauge's",
        "nats of logit",
        ".3f",
    ),
    Column(
        "raw_energy_moved",
        "The same once the gauge's constant is added to every logit",
        "nats of logit",
        ".3f",
    ),
)
TEMPERED = (
    Column("temperature", "T", "nats"),
    Column("text", "The continuation", form="r"),
    Column("boltzmann", "exp(−E/T) / Z over the set", "probability", ".4f"),
    Column(
        "by_token",
        "The set's share where each token is drawn at T, as samplers do; None where that gives none of them",
        "probability",
        ".4f",
    ),
    Column("by_token_logprob", "Its log-probability then, before the set is normalised", "nats", ".4f"),
    Column("log_z", "Σ log Z_t(T) of its steps, where the two ways differ", "nats", ".4f"),
)
STEPS = (
    Column("text", "The continuation", form="r"),
    Column("position", "Which of its tokens"),
    Column("token", "The token's text", form="r"),
    Column("logprob", "log P of the token given all before it, −(E − F) at T = 1", "nats", ".4f"),
    Column("logit", "z, which is defined up to a constant of this step", "nats", ".3f"),
)
BESIDE = (0.5, 1.0, 2.0)  # temperatures that are shown beside the one asked for


class _Tempered(NamedTuple):
    """The set at one temperature, both ways; [texts]."""

    temperature: float
    whole: Float[np.ndarray, "texts"]
    by_token: Float[np.ndarray, "texts"] | None
    logprob: Float[np.ndarray, "texts"]
    log_z: Float[np.ndarray, "texts"]

    @property
    def apart(self) -> float:
        """Total variation between the two ways."""
        return 1.0 if self.by_token is None else float(np.abs(self.whole - self.by_token).sum()) / 2


def temper(
    lab: "Lab", prompt: str, texts: Sequence[str], temperature: float, gauge: float, *, chat: bool
) -> Reading:
    """The texts as states, at T and beside it; errors as in `continuations`."""
    temperatures = sorted({*BESIDE, temperature})
    found = continuations(lab, prompt, texts, "continuations", chat=chat, temperatures=temperatures)
    logprobs = np.array([each.logprob for each in found])
    sets = [_tempered(found, logprobs, index, each) for index, each in enumerate(temperatures)]
    widest = max(sets, key=lambda each: each.apart)
    return Reading(
        findings=[_finding(found, widest)],
        tables=[_states(found, gauge), _both(found, sets), _steps(lab, found)],
        checks=[chain_rule(lab, found, "continuations"), *_checks(found, sets)],
        notes=[
            "A continuation is a state of its tokens, whatever follows. Given a set, Boltzmann's way needs a "
            "sum over whole texts; a sampler only ever sums over one step, and so favours paths whose steps "
            "are flat when T < 1, and sharp when T > 1.",
            *_overlap(found),
            *reread(lab, prompt, found, chat=chat),
        ],
    )


def _tempered(
    found: Sequence[Continuation], logprobs: Float[np.ndarray, "texts"], index: int, temperature: float
) -> _Tempered:
    logprob = np.array([each.tempered[index].sum() for each in found])
    by_token = boltzmann.probabilities(logprob) if np.isfinite(logprob).any() else None
    log_z = np.array([each.log_z[index].sum() for each in found])
    return _Tempered(temperature, boltzmann.probabilities(logprobs, temperature), by_token, logprob, log_z)


def _finding(found: Sequence[Continuation], widest: _Tempered) -> str:
    if widest.apart < 1e-9:
        return "Tempering whole texts and tempering token by token give the same at every temperature here."
    by_token, at = widest.by_token, f"At T = {widest.temperature:g}"
    if by_token is None:
        return (
            f"{at} token by token no text of the set is ever said; tempering whole texts picks the likeliest."
        )
    index = int(np.abs(widest.whole - by_token).argmax())
    return (
        f"{at} tempering whole texts gives {found[index].text!r} {100 * widest.whole[index]:.4g}% of the "
        f"set, tempering token by token, as samplers do, {100 * by_token[index]:.4g}%. "
        f"At T = 1 both are the same."
    )


def _overlap(found: Sequence[Continuation]) -> list[str]:
    """A note on texts that begin others of the set: both come about at once."""
    pairs = [(one, other) for one in found for other in found if one.begins(other)]
    if not pairs:
        return []
    one, other = pairs[0]
    more = f", and {len(pairs) - 1} more such" if len(pairs) > 1 else ""
    return [
        f"These states overlap: {one.text!r} begins {other.text!r}{more}, so whoever says the second has "
        f"said the first. Each keeps its whole E here, and the shares of the set are ratios, not chances of "
        f"events of which one alone comes about; as classes, a text would count only where none of the "
        f"longer ones follows."
    ]


def _states(found: Sequence[Continuation], gauge: float) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for each in found:
        size, raw = len(each.tokens), -math.fsum(each.logits)
        rows.append((each.text, size, -each.logprob, each.logprob / size, raw, raw - gauge * size))
    return Table(
        "sequences", f"Whole texts as states; raw energies before and after {gauge:+g}", SEQUENCES, rows
    )


def _both(found: Sequence[Continuation], sets: Sequence[_Tempered]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            each.temperature, continuation.text, float(each.whole[index]),
            None if each.by_token is None else float(each.by_token[index]),
            float(each.logprob[index]), float(each.log_z[index]),
        )
        for each in sets
        for index, continuation in enumerate(found)
    ]  # fmt: skip
    return Table("tempered", "The set at each temperature: whole texts, and token by token", TEMPERED, rows)


def _steps(lab: "Lab", found: Sequence[Continuation]) -> Table:
    piece = lab.model.tokenizer.piece
    rows = [
        (each.text, position, piece(token), float(log_p), float(logit))
        for each in found
        for position, (token, log_p, logit) in enumerate(
            zip(each.tokens, each.log_p, each.logits, strict=True)
        )
    ]
    return Table("steps", "Each token of each text", STEPS, rows, detail=True)


def _checks(found: Sequence[Continuation], sets: Sequence[_Tempered]) -> list[Check]:
    logprobs = np.array([continuation.logprob for continuation in found])
    paths, ones = [], []
    for each in sets:
        if 0 < each.temperature < math.inf:
            finite = np.isfinite(each.logprob) & np.isfinite(each.log_z)  # not so at a tiny T
            direct = logprobs[finite] / each.temperature - each.log_z[finite]
            gaps = np.abs(each.logprob[finite] - direct) / np.maximum(1, np.abs(direct))
            paths.append(float(gaps.max(initial=0.0)))
        if each.temperature == 1:
            ones.append(each.apart)
    return [
        Check(
            "token by token = exp(−E/T) / Π Z_t",
            "log-probabilities of the tokens at T, and the whole text's energy with the path's own Z",
            max(paths),
            1e-9,
        ),
        Check("both ways agree at T = 1", "total variation between the two", max(ones), 1e-10),
    ]
