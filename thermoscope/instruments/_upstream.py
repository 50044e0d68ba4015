"""What readings of another server have in common: its most probable tokens, and checks on what they say."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Check, Column

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab
    from thermoscope.instruments.shape.settings import PromptSettings, Settings
    from thermoscope.laws.partial import Partial
    from thermoscope.upstream.upstream import Upstream

APART = 0.05  # nats that a server's answers to one question may lie apart: bf16, and company in the batch
SUM = 1e-3  # that its probabilities may sum to above 1
HOTTEST = 2.0  # the greatest temperature of OpenAI's API
CURVE = tuple(10 ** (exponent / 20) for exponent in range(-40, 41))  # temperatures, 0.01 to 100


class Seen(NamedTuple):
    """The tokens that a server showed after the prompt, best first, and what they say of all."""

    names: tuple[str, ...]
    partial: "Partial"


def upstream(lab: "Lab") -> "Upstream":
    """The server that is looked at."""
    assert lab.upstream is not None  # Instrument.read chooses this way only then
    return lab.upstream


def look(lab: "Lab", settings: "PromptSettings") -> Seen:
    """What follows the prompt."""
    choice, partial = upstream(lab).next(settings.prompt, chat=settings.chat)
    return Seen(tuple(each.text for each in choice.best[: len(partial.log_p)]), partial)


def refuse(settings: "Settings", reasons: Mapping[str, str]) -> None:
    """Raise `InvalidRequest` for a setting that is given and needs more than is known here."""
    for name, reason in reasons.items():
        value = getattr(settings, name)
        if value is not None and value != type(settings).model_fields[name].default:
            raise InvalidRequest(
                f"{name}: needs the local engine, because {reason}; leave it out, or ask a server without "
                "--upstream.",
                param=name,
            )


def pair(key: str, meaning: str, unit: str = "", form: str = ".4g") -> tuple[Column, Column]:
    """The columns of a number of which only bounds are known."""
    return (
        Column(f"{key}_low", f"{meaning}: at least", unit, form),
        Column(f"{key}_high", f"{meaning}: at most", unit, form),
    )


def band(
    figure: tuple[str, str],
    across: str,
    up: str,
    x: Sequence[float],
    bounds: Sequence[tuple[float, float]],
    *,
    log: bool = True,
) -> Figure:
    """The two bounds of a number as lines; one that is infinite is left out.

    `figure`: its name and title. `across`, `up`: titles of the axes. `log`: whether x stands so.
    """
    highs = [each if math.isfinite(each) else None for _, each in bounds]
    lines = [line(list(x), [low for low, _ in bounds], "at least")]
    if any(each is not None for each in highs):
        lines.append(line(list(x), highs, "at most"))
    return Figure(*figure, lines, axes(across, up, **({"xaxis": {"type": "log"}} if log else {})))


def checks(lab: "Lab", settings: "PromptSettings", seen: Seen, temperatures: Sequence[float]) -> list[Check]:
    """What can be tested of numbers that another server said, and of what was concluded from them."""
    from thermoscope.laws.partial import Partial

    again = look(lab, settings)
    apart = [abs(one - other) for one, other in zip(seen.partial.log_p, again.partial.log_p, strict=False)]
    fewer = Partial(seen.partial.log_p[: max(1, len(seen.names) // 2)], seen.partial.vocabulary)
    return [
        Check(
            "said twice",
            "largest difference between the log-probabilities of two answers to one question, rank by rank",
            float(max(apart)),
            APART,
        ),
        Check(
            "Σ p ≤ 1",
            "how far the probabilities that were shown sum to above 1",
            max(0.0, math.fsum(math.exp(each) for each in seen.partial.log_p) - 1),
            SUM,
        ),
        Check(
            "bounds from half of the tokens hold those from all",
            "how far entropy and log Z stick out, at every temperature",
            max(_out(seen.partial, fewer, temperature) for temperature in temperatures),
            1e-4,
        ),
    ]


def note(lab: "Lab", seen: Seen) -> str:
    """How much of the distribution is known."""
    partial = seen.partial
    of = "an unknown number of" if partial.vocabulary is None else f"{partial.vocabulary:,}"
    return (
        f"{upstream(lab).name} shows {len(seen.names)} of {of} tokens; the others share between "
        f"{partial.unseen.low:.3g} and {partial.unseen.high:.3g} of the probability, and each has at most "
        f"{math.exp(partial.log_p[-1]):.3g}. What follows from that is a bound, and no more is said."
    )


def between(bounds: tuple[float, float], form: str = ".4g") -> str:
    """`2.1 to 3.4`, or one number where both are the same to the digits that are shown."""
    low, high = (format(each, form) for each in bounds)
    return low if low == high else f"{low} to {high}"


def _out(all_: "Partial", fewer: "Partial", temperature: float) -> float:
    one, other = all_.at(temperature), fewer.at(temperature)
    gaps = [other.entropy.low - one.entropy.low, math.log(other.z.low) - math.log(one.z.low)]
    for tight, wide in (
        (one.entropy.high, other.entropy.high),
        (math.log(one.z.high), math.log(other.z.high)),
    ):
        if math.isfinite(wide):
            gaps.append(tight - wide)
    return max(0.0, *gaps)
