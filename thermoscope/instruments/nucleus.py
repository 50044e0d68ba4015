r"""The nucleus V(p) of the next token, and how its size follows the shape of the distribution along a text.

The text is the model's own at these settings, or a given one. The sizes stand against the fixed k that keeps
as many tokens on average, and what Thermoscope keeps beside what other engines do with the same settings.
"""

import math
from typing import TYPE_CHECKING, Annotated

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import EXACT, Check, Column, Reading, Table, joined
from thermoscope.instruments.shape.settings import Text, setting
from thermoscope.instruments.shape.source import Source

if TYPE_CHECKING:
    import numpy as np

    from thermoscope.instruments._passage import Passage
    from thermoscope.instruments.shape.lab import Lab

QUESTION = "What does top_p do?"
LAW = r"\text{smallest } V^{(p)} \text{ with } \sum_{x \in V^{(p)}} P(x \mid x_{1:i-1}) \ge p"

Logits = Annotated["np.ndarray", "vocab"]

NEXT = (
    Column("size", "|V(p)|", "tokens"),
    Column("mass", "Probability of V(p), at least p", form=".6f"),
    Column("crossing", "The last token that is kept: with it the sum reaches p", form="r"),
    Column("mass_before", "The sum before it, below p", form=".6f"),
    Column("removed_tokens", "Tokens that are cut off", "tokens"),
    Column("removed_mass", "Their probability", form=".6f"),
    Column("entropy", "S of the whole distribution", "nats", ".4f"),
    Column("entropy_kept", "S of what is left, renormalised: what the sampler draws from", "nats", ".4f"),
)
RANKED = (
    Column("rank", "Place by probability, ties by lower id"),
    Column("token", "The token's text", form="r"),
    Column("id", "Its id"),
    Column("probability", "P at the temperature", form=".6f"),
    Column("cumulative", "Sum of P up to this token", form=".6f"),
    Column("kept", "Whether it is in V(p)"),
    Column("drawn", "Probability of being drawn: P / mass in V(p), else 0", form=".6f"),
)
EVERY = (
    "At T = 0 the best token has all the probability. The law's V(1) holds every token all the same, those "
    "of probability 0 too, for p = 1 cuts nothing off; a sampler takes the best one at T = 0 and cuts no "
    "further, so that each engine below keeps one token."
)
BEYOND = 3  # tokens shown after the crossing one
POINTS = 400  # of the cumulative curve at most


class Settings(shape.PromptSettings):
    """What to look at, and where the nucleus ends."""

    top_p: float = setting(
        0.9, meaning="p, the mass that the nucleus must reach.", unit="probability", ge=0, le=1
    )
    temperature: shape.Temperature = setting(1.0, meaning="T before the cut, 0 to inf.", unit="logit's nats")
    top_k: int = setting(
        0, meaning="Top-k beside it, for the engines side by side only; 0 keeps all.", unit="tokens",
        ge=0, lt=2**63,
    )  # fmt: skip
    min_p: float = setting(
        0.0, meaning="Min-p beside it, for the engines side by side only; 0 keeps all.",
        unit="fraction of the best token's probability", ge=0, le=1,
    )  # fmt: skip
    top: int = setting(10, meaning="How many tokens to show.", unit="tokens", ge=1, le=1000)
    max_tokens: int = setting(64, meaning="Length of the generated text.", unit="tokens", ge=1, le=4096)
    seed: int = setting(0, meaning="The dice of the generated text.", unit="seed", ge=-(2**63), lt=2**64)
    text: Text | None = setting(
        None, meaning="Follow this text after the prompt instead of a generated one.", unit="text",
        min_length=1, max_length=100_000,
    )  # fmt: skip
    file: Source | None = setting(None, meaning="The same from a file of plain text.", unit="file")


def read(settings: Settings, lab: "Lab") -> Reading:
    """Look at the next token, along the text, and at five engines side by side."""
    from thermoscope.instruments._engines import engines
    from thermoscope.instruments._flexibility import flexibility
    from thermoscope.laws.filters import Filters

    passage = _passage(settings, lab)
    z = lab.last(lab.tokens(settings.prompt, chat=settings.chat))
    filters = Filters(**settings.model_dump(include={"temperature", "top_k", "top_p", "min_p"}))
    return joined(
        _next(settings, lab, z),
        flexibility(lab, passage, settings.top_p, settings.temperature),
        engines(lab, passage, z, filters, settings.top),
    )


def read_upstream(settings: Settings, lab: "Lab") -> Reading:
    """The same where only another server's most probable tokens are known: bounds instead of values."""
    from thermoscope.instruments import _upstream_nucleus

    return _upstream_nucleus.read(settings, lab)


def _passage(settings: Settings, lab: "Lab") -> "Passage":
    """The text to look along: given, or the engine's own."""
    from thermoscope.instruments._passage import given, spoken

    if settings.text is not None and settings.file is not None:
        raise InvalidRequest("file: got one beside text, expected only one of the two.", param="file")
    if settings.text is not None:
        return given(lab, settings.prompt, settings.text, "text", chat=settings.chat)
    if settings.file is not None:
        return given(lab, settings.prompt, settings.file.text, "file", chat=settings.chat)
    prompt = lab.tokens(settings.prompt, chat=settings.chat)
    sampling = settings.model_dump(include={"temperature", "top_p", "seed", "max_tokens"})
    return spoken(lab, prompt, **sampling)


def _next(settings: Settings, lab: "Lab", z: Logits) -> Reading:
    """V(p) of the next token, and the same set from a sort of the whole vocabulary."""
    import numpy as np

    from thermoscope.laws import boltzmann, truncation

    top_p, temperature = settings.top_p, settings.temperature
    kept = truncation.nucleus(z, top_p, temperature).ids
    p = boltzmann.probabilities(z, temperature)
    order = np.lexsort((np.arange(len(z)), -z))
    cumulative = np.cumsum(p[order])
    size, piece = len(kept), lab.model.tokenizer.piece
    outside = np.ones(len(z), dtype=bool)
    outside[kept] = False
    mass, removed = math.fsum(p[kept]), math.fsum(p[outside])
    before = math.fsum(p[kept[:-1]])
    brute = len(z) if top_p == 1 else int((cumulative >= top_p * (1 - truncation.EQUAL)).argmax()) + 1
    crossing = piece(int(kept[-1]))
    listed = min(settings.top, size)
    shown = [*range(listed), *range(max(listed, size - 1), min(size + BEYOND, len(z)))]
    ranks = np.unique(np.geomspace(1, len(z), POINTS).astype(int))
    return Reading(
        findings=[
            f"At T = {temperature:g} and p = {top_p:g} the nucleus of the next token has {_tokens(size)} "
            f"with {mass:.2%} of the probability; {crossing!r} crosses p. Cut off: "
            f"{_tokens(len(z) - size)} with {removed:.2%}."
        ],
        tables=[
            Table(
                "next",
                "V(p) of the next token",
                NEXT,
                [
                    (
                        size, mass, crossing, before, len(z) - size, removed,
                        float(boltzmann.thermodynamics(z, temperature).entropy),
                        float(boltzmann.thermodynamics(z[kept], temperature).entropy),
                    )
                ],
            ),
            Table(
                "tokens",
                f"Its tokens, best first, and {BEYOND} beyond it",
                RANKED,
                [
                    (
                        rank + 1, piece(int(order[rank])), int(order[rank]), float(p[order[rank]]),
                        float(cumulative[rank]), rank < size, float(p[order[rank]]) / mass * (rank < size),
                    )
                    for rank in shown
                ],
            ),
        ],
        figures=[
            Figure(
                "cumulative",
                f"The sum of P reaches p = {top_p:g} with token number {size}",
                [
                    line(ranks.tolist(), cumulative[ranks - 1].tolist(), "sum of P"),
                    line([1, len(z)], [top_p, top_p], f"p = {top_p:g}", line={"dash": "dot"}),
                    line([size, size], [0, 1], f"|V(p)| = {size}", line={"dash": "dash"}),
                ],
                axes("rank", "cumulative probability", xaxis={"type": "log"}),
            )
        ],
        notes=[
            "The card's set is not unique where probabilities tie: then the lower ids are kept.",
            "The card's P is the model's own; the sampler's is that at T, and what is kept is renormalised.",
            *[EVERY for _ in range(temperature == 0 and top_p == 1)],
        ],
        checks=[
            Check(
                "V(p) = the first tokens of a full sort",
                "tokens that are in one of the two sets only",
                len(set(kept.tolist()) ^ set(order[:brute].tolist())),
                0,
            ),
            Check(
                "V(p) is the smallest",
                "how far the sum without the last token is above p, or the sum with it below",
                max(0.0, before - top_p, top_p - mass),
                EXACT,
            ),
            Check(
                "kept + removed = 1",
                "the probabilities inside and outside, each summed with math.fsum",
                abs(mass + removed - 1),
                EXACT,
            ),
        ],
    )  # fmt: skip


def _tokens(count: int) -> str:
    return f"{count:,} token{'s' * (count != 1)}"
