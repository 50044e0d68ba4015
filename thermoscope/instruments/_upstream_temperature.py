"""The temperature card where only another server's most probable tokens are known."""

import math
from typing import TYPE_CHECKING, Any

from thermoscope.instruments._upstream import (
    CURVE,
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
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.temperature import Settings

SOLVE = "the temperature that gives a value is known only where the value is, and here there are bounds"
LOCAL = {
    "entropy": SOLVE,
    "perplexity": SOLVE,
    "top_probability": SOLVE,
    "calibrate": "it takes the whole distribution after every token of the file",
}
TOKEN = Column("token", "The token's text", form="r")
LOG_P = Column("log_p", "log P at T = 1, as the server says it", "nats", ".4f")
T = Column("temperature", "T", "nats")
TEMPERATURES = (
    T,
    *pair("entropy", "S of the next token", "nats", ".4f"),
    *pair("perplexity", "exp S", "tokens"),
    Column("top_token", "The best token", form="r"),
    *pair("top_probability", "Its probability", form=".4f"),
    *pair("unseen", "Probability of all tokens that the server does not show", form=".4f"),
)
SPOKEN = (
    T,
    Column("choice", "Which of the answers; its seed is so much above the first"),
    Column("logprob", "Mean log-probability of its tokens in the model's own distribution", "nats", ".3f"),
    Column("text", "What the model said"),
)


def read(settings: "Settings", lab: "Lab") -> Reading:
    """The next token at each temperature, as bounds, and what the server says at each."""
    refuse(settings, LOCAL)
    seen = look(lab, settings)
    return joined(_distributions(settings, lab, seen), _spoken(settings, lab))


def _distributions(settings: "Settings", lab: "Lab", seen: Seen) -> Reading:
    tempered = [seen.partial.at(temperature) for temperature in settings.distinct]
    labels = [f"{temperature:.12g}" for temperature in settings.distinct]
    rows: list[tuple[Cell, ...]] = []
    for each in tempered:
        low, high = each.probabilities()
        entropy = each.entropy
        rows.append(
            (
                each.temperature, *entropy, math.exp(entropy.low), _exp(entropy.high), seen.names[0],
                float(low[0]), float(high[0]), *each.unseen,
            )
        )  # fmt: skip
    ends = [each.probabilities() for each in tempered]
    shown: list[tuple[Cell, ...]] = [
        (name, float(log_p), *(float(end[at]) for pair_ in ends for end in pair_))
        for at, (name, log_p) in enumerate(zip(seen.names[: settings.top], seen.partial.log_p, strict=False))
    ]
    columns = [column for label in labels for column in pair(f"p_{label}", f"P at T = {label}", form=".4f")]
    curve = [seen.partial.at(temperature).entropy for temperature in CURVE]
    return Reading(
        findings=[
            f"At T = {label} the model has {between((row[3], row[4]), '.3g')} choices (perplexity); "  # type: ignore[arg-type]
            f"{seen.names[0]!r} gets {between((row[6], row[7]), '.2%')}."  # type: ignore[arg-type]
            for label, row in zip(labels, rows, strict=True)
        ],
        tables=[
            Table("temperatures", "The next token at each temperature", TEMPERATURES, rows),
            Table("distribution", "The best tokens", [TOKEN, LOG_P, *columns], shown),
            Table(
                "curve", "Against T", [T, *pair("entropy", "S", "nats")],
                [(temperature, *each) for temperature, each in zip(CURVE, curve, strict=True)], detail=True,
            ),
        ],
        figures=[band(("entropy", "Entropy against T"), "T", "entropy, nats", CURVE, curve)],
        checks=checks(lab, settings, seen, [*settings.distinct, *CURVE]),
        notes=[note(lab, seen)],
    )  # fmt: skip


def _spoken(settings: "Settings", lab: "Lab") -> Reading:
    """What the server says at each temperature that it can be asked for."""
    if not settings.samples:
        return Reading()
    server, rows = upstream(lab), []
    reach = [each for each in settings.distinct if each <= HOTTEST]
    for temperature in lab.track("speaking", reach):
        asked: dict[str, Any] = {"temperature": temperature, "max_tokens": settings.max_tokens}
        count = settings.samples if temperature else 1  # greedy answers are all alike
        answers = [  # one request each: a server may give fewer at once than it gives in turn
            server.speak(settings.prompt, chat=settings.chat, seed=settings.seed + at, **asked)[0]
            for at in range(count)
        ]
        raw = server.abilities.logprobs == "raw" or temperature == 1
        for choice, answer in enumerate(answers):
            logprobs = [token.chosen.logprob for token in answer.tokens] if raw else []
            mean = math.fsum(logprobs) / len(logprobs) if logprobs else None
            rows.append((temperature, choice, mean, answer.text))
    left = [f"{each:g}" for each in settings.distinct if each > HOTTEST]
    return Reading(
        tables=[Table("continuations", "What the model says", SPOKEN, rows)],
        notes=[f"Nothing was said at T = {', '.join(left)}: OpenAI's API ends at {HOTTEST:g}."]
        if left
        else [],
    )


def _exp(value: float) -> float:
    return math.exp(value) if math.isfinite(value) else math.inf
