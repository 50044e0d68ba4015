"""The Boltzmann card where only another server's most probable tokens are known.

What compares two tokens that are shown is exact: the gap of their energies, and their weights. What takes
the whole distribution, Z and all that follows from it, is a bound.
"""

import math
from typing import TYPE_CHECKING

from thermoscope.instruments._upstream import CURVE, band, between, checks, look, note, pair, refuse
from thermoscope.instruments.shape.reading import EXACT, Cell, Check, Column, Reading, Table

if TYPE_CHECKING:
    from thermoscope.instruments.boltzmann import Settings
    from thermoscope.instruments.shape.lab import Lab

TEXTS = "it takes the probability of texts that the model did not say"
LOCAL = {
    "gauge": "log-probabilities have no constant left in them that could be moved",
    "continuations": TEXTS,
    "classes": TEXTS,
    "target": TEXTS,
}
TWO = (
    Column("token", "The token's text", form="r"),
    Column("log_p", "log P at T = 1, as the server says it", "nats", ".4f"),
    Column("gap", "E − E_0, how far its energy lies above the best token's", "nats of logit", ".4f"),
    Column("weight", "Boltzmann weight from the best token up, exp(−(E − E_0)/T)", "best = 1", ".6f"),
    *pair("boltzmann", "weight / Z", "probability", ".6f"),
    *pair("above", "E − F = −T log p", "nats of logit", ".4f"),
)
WHOLE = (
    *pair("z", "Z, counted from the best token", "best = 1"),
    *pair("entropy", "S", "nats", ".4f"),
    *pair("ts", "U − F = T S", "nats of logit", ".4f"),
    *pair("unseen", "Probability of all tokens that the server does not show", form=".4f"),
)
SPREAD = (
    "The heat capacity is left out: C = Var E / T², and the energy of a token that is not shown may be as "
    "high as one likes, so that there is no greatest value."
)


def read(settings: "Settings", lab: "Lab") -> Reading:
    """The next token as a physicist sees it, as far as it is known."""
    refuse(settings, LOCAL)
    seen, temperature = look(lab, settings), settings.temperature
    tempered = seen.partial.at(temperature)
    low, high = tempered.probabilities()
    rows: list[tuple[Cell, ...]] = [
        (
            name, float(log_p), float(seen.partial.log_p[0] - log_p), float(weight),
            float(least), float(most),
            *_above(temperature, float(least), float(most)),
        )
        for name, log_p, weight, least, most in list(
            zip(seen.names, seen.partial.log_p, tempered.weights, low, high, strict=True)
        )[: settings.top]
    ]  # fmt: skip
    z, entropy = tempered.z, tempered.entropy
    heat = [0.0 if temperature == 0 else temperature * each if each else 0.0 for each in entropy]
    curve = [seen.partial.at(each) for each in CURVE]
    return Reading(
        findings=[
            f"At T = {temperature:g} Z is {between(z, '.5g')}, counted from the best token "
            f"{seen.names[0]!r}, which so has p = 1/Z = {between((1 / z.high, 1 / z.low))}; the entropy is "
            f"{between(entropy)} nats.",
        ],
        tables=[
            Table("two", f"The best tokens as states, at T = {temperature:g}", TWO, rows),
            Table("whole", "All tokens together", WHOLE, [(*z, *entropy, *heat, *tempered.unseen)]),
        ],
        figures=[
            band(
                ("entropy", "Entropy against T"), "T", "entropy, nats", CURVE,
                [each.entropy for each in curve],
            ),
            band(
                ("z", "log Z against T, counted from the best token"), "T", "log Z", CURVE,
                [(math.log(each.z.low), math.log(each.z.high)) for each in curve],
            ),
        ],
        checks=[
            Check(
                "weight / Z = exp(log p)",
                "the two ways to a token's probability, at both ends, over all that are shown",
                max(
                    abs(math.exp(bound) - p)
                    for log_p, *ends in zip(seen.partial.log_p, low, high, strict=True)
                    for bound, p in zip(tempered.log_probability(float(log_p)), ends, strict=True)
                ),
                EXACT,
            ),
            *checks(lab, settings, seen, [temperature, *CURVE]),
        ],
        notes=[note(lab, seen), SPREAD],
    )  # fmt: skip


def _above(temperature: float, least: float, most: float) -> tuple[float | None, float | None]:
    """E − F = −T log p from the bounds of p; at T = 0 it is the gap, and at ∞ it has no value."""
    if temperature == 0 or math.isinf(temperature):
        return None, None
    return tuple(-temperature * math.log(p) if p else math.inf for p in (most, least))  # type: ignore[return-value]
