r"""The softmax as a physicist reads it: energies, a partition function, and what follows from them.

Logits are energies with the sign turned, E = −z, and softmax is the Boltzmann distribution of them. A
constant added to all logits changes no probability, so E, log Z, F and U are only known up to it: this card
measures what does not move (E − F = −T log p, U − F = T S, S, Var E, C), and shows the rest moving. Whole
texts are states, too, and so are the labels of a finite set, for which the loss is a gap of energies.
"""

import math
from typing import TYPE_CHECKING, Annotated

from thermoscope.errors import InvalidRequest
from thermoscope.instruments.shape import settings as shape
from thermoscope.instruments.shape.reading import EXACT, Cell, Check, Column, Reading, Table, joined
from thermoscope.instruments.shape.settings import Many, Short, setting

if TYPE_CHECKING:
    import numpy as np

    from thermoscope.instruments.shape.lab import Lab

QUESTION = "What do physicists see in the softmax?"
LAW = (
    r"P(\text{class}_i \mid x) = \operatorname{softmax}(z)_i \quad\Longleftrightarrow\quad "
    r"P(s) = \frac{\exp(-E(s; \theta) / T)}{Z}, \quad E = -z"
)

Logits = Annotated["np.ndarray", "vocab"]

TWO = (
    Column("token", "The token's text; None for all that are not shown", form="r"),
    Column("logit", "z, which is defined up to a constant", "nats", ".3f"),
    Column("softmax", "exp(z/T) / Σ exp(z/T)", "probability", ".6f"),
    Column("energy", "E = −z, which is defined up to a constant", "nats of logit", ".3f"),
    Column("weight", "Boltzmann weight from the best token up, exp(−(E − E_0)/T)", "best = 1", ".6f"),
    Column("boltzmann", "weight / Z, where Z is the sum of all weights", "probability", ".6f"),
    Column("above", "E − F = −T log p, which no constant moves", "nats of logit", ".4f"),
)


class Settings(shape.PromptSettings):
    """What to look at, at which temperature, and which states beside the next token's."""

    temperature: shape.Temperature = setting(1.0, meaning="T, 0 to inf.", unit="logit's nats")
    top: int = setting(10, meaning="How many of the best tokens to show.", unit="tokens", ge=1, le=1000)
    gauge: float = setting(
        10.0, meaning="The constant that is added to every logit, to see what moves.", unit="nats",
        ge=-10_000, le=10_000,
    )  # fmt: skip
    continuations: Many[Short] | None = setting(
        None, meaning="Whole texts after the prompt, as states.", unit="texts", min_length=1, max_length=64
    )
    classes: Many[Short] | None = setting(
        None, meaning="A finite set of labels after the prompt, as states.", unit="texts", min_length=1,
        max_length=256,
    )  # fmt: skip
    target: Short | None = setting(
        None, meaning="The one of the classes that is right, for the loss and its gradient.", unit="text",
        min_length=1,
    )  # fmt: skip


def read(settings: Settings, lab: "Lab") -> Reading:
    """Look at the next token as a physicist, then at whole texts and at the classes, if asked to."""
    from thermoscope.instruments._gauge import measure
    from thermoscope.instruments._heat import against_temperature

    classes, target = settings.classes, settings.target
    if target is not None and target not in (classes or ()):
        expected = "classes to choose from" if classes is None else f"one of {', '.join(map(repr, classes))}"
        raise InvalidRequest(f"target: got {target!r}, expected {expected}.", param="target")
    z = lab.last(lab.tokens(settings.prompt, chat=settings.chat))
    temperature = settings.temperature
    names = lab.names(z, settings.top)
    parts = [
        _two_tables(z, names, temperature),
        measure(z, temperature, settings.gauge),
        against_temperature(z, temperature),
    ]
    if settings.continuations is not None:
        from thermoscope.instruments._sequences import temper

        parts.append(
            temper(
                lab, settings.prompt, settings.continuations, temperature, settings.gauge, chat=settings.chat
            )
        )
    if classes is not None:
        from thermoscope.instruments._classes import classify

        parts.append(classify(lab, settings.prompt, classes, target, temperature, chat=settings.chat))
    return joined(*parts)


def read_upstream(settings: Settings, lab: "Lab") -> Reading:
    """The same where only another server's most probable tokens are known: bounds instead of values."""
    from thermoscope.instruments import _upstream_boltzmann

    return _upstream_boltzmann.read(settings, lab)


def _two_tables(z: Logits, names: dict[int, str], temperature: float) -> Reading:
    """The computer scientist's columns and the physicist's, line by line."""
    import numpy as np

    from thermoscope.instruments._ensemble import ensemble
    from thermoscope.laws import boltzmann

    softmax, states = boltzmann.probabilities(z, temperature), ensemble(z, temperature)
    above = states.energy - boltzmann.thermodynamics(z, temperature).free_energy
    shown = list(names)
    rows: list[tuple[Cell, ...]] = [
        (
            names[token], float(z[token]), float(softmax[token]), float(states.energy[token]),
            float(states.weights[token]), float(states.p[token]), float(above[token]),
        )
        for token in shown
    ]  # fmt: skip
    others = np.ones(len(z), dtype=bool)
    others[shown] = False
    if others.any():
        sums = [math.fsum(each[others]) for each in (softmax, states.weights, states.p)]
        rows.append((None, None, sums[0], None, sums[1], sums[2], None))
    best, at = names[shown[0]], f"At T = {temperature:g}"
    notes = []
    gap = float(np.abs(softmax - states.p).max())
    if temperature == 0 and states.z > 1:  # the tie is the sampler's to break
        gap = abs(1 - math.fsum(states.p[states.weights > 0]))
        notes.append(
            f"{states.z:.0f} tokens share the least energy: at T = 0 physics leaves them even, and the "
            f"sampler takes the lowest id."
        )
    return Reading(
        findings=[
            f"{at} Z = {states.z:.5g}, counted from the best token {best!r}, which so has p = 1/Z = "
            f"{1 / states.z:.4g}: softmax and Boltzmann are one distribution, whichever way it is written.",
            f"Optimisation: the loss of a token is −log p = (E − F)/T, how far its energy lies above the "
            f"free energy: {abs(math.log(states.z)):.4g} nats for {best!r}. A gradient step lowers the "
            f"energy of the token that came by (1 − p)/T of its rate and raises each other's by p/T, until p "
            f"is what the data say.",
        ],
        tables=[
            Table(
                "two",
                f"The same state twice, at T = {temperature:g}: as logits, then as energies; the last line "
                "is all other tokens",
                TWO,
                rows,
            )
        ],
        checks=[
            Check(
                "softmax(z/T) = exp(−E/T) / Z",
                f"largest difference between the two columns, over all {len(z)} tokens",
                gap,
                EXACT,
            ),
            Check(
                "Σ p = 1",
                "the physicist's column, summed with math.fsum",
                abs(math.fsum(states.p) - 1),
                EXACT,
            ),
        ],
        notes=notes,
    )  # fmt: skip
