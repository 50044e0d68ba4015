"""The nucleus card where only another server's most probable tokens are known."""

from itertools import accumulate
from typing import TYPE_CHECKING

from thermoscope.instruments._upstream import (
    HOTTEST,
    Seen,
    band,
    between,
    checks,
    look,
    note,
    pair,
    refuse,
    upstream,
)
from thermoscope.instruments.shape.reading import Cell, Column, Reading, Table, joined

if TYPE_CHECKING:
    from thermoscope.instruments.nucleus import Settings
    from thermoscope.instruments.shape.lab import Lab

GIVEN = "it takes the distribution after every token of a text that the model did not say"
ENGINES = "engines side by side are compared on the whole distribution"
LOCAL = {"text": GIVEN, "file": GIVEN, "top_k": ENGINES, "min_p": ENGINES}
SIZE = pair("size", "|V(p)|", "tokens")
ENTROPY = pair("entropy", "S of the whole distribution", "nats", ".4f")
NEXT = (
    *SIZE,
    Column("crossing", "The token that crosses p, where it is known", form="r"),
    *pair("mass", "Probability of the tokens that are surely in V(p) and shown", form=".4f"),
    *pair("unseen", "Probability of all tokens that the server does not show", form=".4f"),
    *ENTROPY,
)
RANKED = (
    Column("rank", "Place by probability"),
    Column("token", "The token's text", form="r"),
    Column("log_p", "log P at T = 1, as the server says it", "nats", ".4f"),
    *pair("probability", "P at the temperature", form=".6f"),
    *pair("cumulative", "Sum of P up to this token", form=".6f"),
    Column("kept", "Whether it is in V(p); None where that is not known"),
)
ALONG = (
    Column("position", "Which token of the answer", "tokens"),
    Column("token", "The token's text", form="r"),
    Column("log_p", "Its log P at T = 1, as the server says it", "nats", ".4f"),
    *SIZE,
    *ENTROPY,
)


def read(settings: "Settings", lab: "Lab") -> Reading:
    """V(p) of the next token, as far as it is known, and its size along an answer of the server."""
    refuse(settings, LOCAL)
    return joined(_next(settings, lab, look(lab, settings)), _along(settings, lab))


def _next(settings: "Settings", lab: "Lab", seen: Seen) -> Reading:
    top_p, temperature = settings.top_p, settings.temperature
    tempered = seen.partial.at(temperature)
    size = tempered.nucleus(top_p)
    low, high = (each.tolist() for each in tempered.probabilities())
    sums = list(zip(accumulate(low), accumulate(high), strict=True))
    exact = size.low == size.high <= len(seen.names)
    crossing = seen.names[int(size.low) - 1] if exact else None
    inside = sums[min(int(size.low), len(sums)) - 1]
    rows: list[tuple[Cell, ...]] = [
        (
            rank, name, float(log_p), p[0], p[1], total[0], min(1.0, total[1]),
            True if rank <= size.low else False if rank > size.high else None,
        )
        for rank, (name, log_p, p, total) in enumerate(
            zip(seen.names, seen.partial.log_p, zip(low, high, strict=True), sums, strict=True), 1
        )
    ]  # fmt: skip
    return Reading(
        findings=[
            f"At T = {temperature:g} and p = {top_p:g} the nucleus of the next token has "
            f"{between(size, ',.0f')} tokens"
            + (f"; {crossing!r} crosses p." if exact else ", and which one crosses p is not known.")
        ],
        tables=[
            Table(
                "next", "V(p) of the next token", NEXT,
                [(*size, crossing, inside[0], min(1.0, inside[1]), *tempered.unseen, *tempered.entropy)],
            ),
            Table("tokens", "The best tokens", RANKED, rows[: settings.top]),
        ],
        checks=checks(lab, settings, seen, [temperature]),
        notes=[
            note(lab, seen),
            "Five engines side by side, and the law along a text, take whole distributions: the local engine "
            "has them.",
        ],
    )  # fmt: skip


def _along(settings: "Settings", lab: "Lab") -> Reading:
    """The size of the nucleus at each token of an answer."""
    server = upstream(lab)
    if server.abilities.logprobs != "raw" or settings.temperature > HOTTEST:
        why = (
            f"OpenAI's API ends at T = {HOTTEST:g}"
            if settings.temperature > HOTTEST
            else "the server's log-probabilities are not the model's own there"
        )
        return Reading(notes=[f"No size along an answer, because {why}."])
    lab.progress("speaking", 0, 1)
    asked = settings.model_dump(include={"temperature", "top_p", "seed", "max_tokens"})
    (answer,) = server.speak(settings.prompt, chat=settings.chat, **asked)
    rows: list[tuple[Cell, ...]] = []
    sizes = []
    for position, token in enumerate(lab.track("reading", answer.tokens)):
        partial = token.partial(server.abilities.vocabulary)
        if partial is None:
            rows.append((position, token.chosen.text, token.chosen.logprob, None, None, None, None))
            continue
        tempered = partial.at(settings.temperature)
        size = tempered.nucleus(settings.top_p)
        sizes.append((position, size))
        rows.append((position, token.chosen.text, token.chosen.logprob, *size, *tempered.entropy))
    return Reading(
        tables=[Table("along", "Along an answer of the server", ALONG, rows, detail=True)],
        figures=[
            band(
                ("along", "The size of V(p) along an answer"), "token", "tokens",
                [at for at, _ in sizes], [size for _, size in sizes], log=False,
            )
        ],
    )  # fmt: skip
