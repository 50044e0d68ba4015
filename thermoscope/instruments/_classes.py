r"""A finite set of labels as the states of a system, each with the energy of its whole text.

$$E_c = -\log P(c \mid x), \qquad p_c = \frac{\exp(-E_c / T)}{\sum_k \exp(-E_k / T)}, \qquad F(T = 1) = -\log
\sum_k P(k \mid x)$$

**A label that begins another.** After "good" may come "ish", so "good" and "goodish" are not two outcomes
but one within the other. The shorter label counts where none of the longer ones follows:
P(good) − P(goodish). So every state is an outcome of its own, and their sum is the mass of the set.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from thermoscope.instruments._continuation import Continuation, chain_rule, continuations, reread
from thermoscope.instruments.shape.figure import Figure, axes, bars, ticks
from thermoscope.instruments.shape.reading import EXACT, Cell, Check, Column, Reading, Table, joined
from thermoscope.laws import boltzmann, loss

if TYPE_CHECKING:
    from thermoscope.instruments.shape.lab import Lab

CLASSES = (
    Column("label", "The label's text", form="r"),
    Column("tokens", "Its tokens after the prompt", "tokens"),
    Column("logprob", "log P(label | prompt), the sum over its tokens", "nats", ".4f"),
    Column("logprob_per_token", "The same for each token", "nats a token", ".4f"),
    Column("mass", "P of the label, without those of the set that it begins", "probability"),
    Column("energy", "E = −log of this mass", "nats", ".4f"),
    Column("above", "E − F = −T log p, where F is that of the set", "nats", ".4f"),
    Column("p", "exp(−E/T) / Z over the set, at T", "probability", ".4f"),
)
LOSS = (
    Column("label", "The label's text", form="r"),
    Column("model", "Its average under the model, p", "probability", ".4f"),
    Column("data", "Its average under the data, 1 for the target", "probability", ".4f"),
    Column("gradient", "∂loss/∂(−E) = (model − data) / T; None at T = 0, which has none", "1 / nats", ".4f"),
)
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures at which a finite difference has digits to show
STEP = 1e-4  # of a finite difference, as a share of T


def classify(
    lab: "Lab", prompt: str, labels: Sequence[str], target: str | None, temperature: float, *, chat: bool
) -> Reading:
    """The distribution over the labels, and the loss where one is the target; errors as `continuations`."""
    found = continuations(lab, prompt, labels, "classes", chat=chat)
    log_p = exclusive(found)
    seen = Reading(checks=[chain_rule(lab, found, "classes")], notes=reread(lab, prompt, found, chat=chat))
    parts = [_distribution(found, log_p, temperature), seen]
    if target is not None:
        parts.append(_loss(labels, log_p, labels.index(target), temperature))
    return joined(*parts)


def exclusive(found: Sequence[Continuation]) -> Float[np.ndarray, "labels"]:
    """log P of each label without the labels of the set that it begins; −∞ where nothing is left."""
    kept = []
    for each in found:
        longer = [other for other in found if each.begins(other)]
        nearest = [other for other in longer if not any(between.begins(other) for between in longer)]
        share = math.fsum(math.exp(other.logprob - each.logprob) for other in nearest)
        kept.append(each.logprob + (math.log1p(-share) if share < 1 else -math.inf))
    return np.array(kept)


def _distribution(
    found: Sequence[Continuation], log_p: Float[np.ndarray, "labels"], temperature: float
) -> Reading:
    """The set at T, and how much of the model's own probability is in it."""
    p = boltzmann.probabilities(log_p, temperature)
    state, own = boltzmann.thermodynamics(log_p, temperature), boltzmann.thermodynamics(log_p)
    # Counted from the likeliest label: unlikely ones have no probability that float64 could hold.
    top = float(log_p.max())
    log_mass = top + math.log(math.fsum(np.exp(log_p - top)))
    mass = math.exp(log_mass)
    held = f"{100 * mass:.4g}%" if mass > 0 else f"exp({log_mass:.6g})"
    above = -log_p - state.free_energy
    rows: list[tuple[Cell, ...]] = [
        (
            each.text, len(each.tokens), each.logprob, each.logprob / len(each.tokens),
            math.exp(own_mass), -float(own_mass), float(over), float(share),
        )
        for each, own_mass, over, share in zip(found, log_p, above, p, strict=True)
    ]  # fmt: skip
    best = int(p.argmax())
    title = f"The set as a system of its own, at T = {temperature:g}"
    checks = [
        Check(
            "F(T = 1) = −log of the set's mass",
            "the free energy, and the probabilities summed with math.fsum",
            abs(float(own.free_energy) + log_mass) / max(1.0, abs(log_mass)),
            EXACT,
        ),
        Check("mass of the set ≤ 1", "what the sum of P has above 1", max(0.0, mass - 1), EXACT),
        Check("Σ p = 1 over the set", "summed with math.fsum", abs(math.fsum(p) - 1), EXACT),
    ]
    if 0 < temperature < math.inf:
        checks.append(_power(log_p, p, temperature))
    notes = [
        "A label's probability is that of its own tokens after the prompt, followed by anything: write the "
        "space before it if the text needs one."
    ]
    if any(one.begins(other) for one in found for other in found):
        notes.append("A label that begins another counts where none of the longer ones follows.")
    return Reading(
        findings=[
            f"{found[best].text!r} has {100 * p[best]:.4g}% of the {len(found)} classes at "
            f"T = {temperature:g} (F = {state.free_energy:.4g}, S = {state.entropy:.4g} nats). Together they "
            f"hold {held} of what the model may say next; {100 * (1 - mass):.4g}% is elsewhere."
        ],
        tables=[Table("classes", title, CLASSES, rows)],
        figures=[
            Figure(
                "classes",
                title,
                [bars(range(len(found)), p.tolist(), f"T = {temperature:g}")],
                axes("class", "probability within the set", xaxis=ticks([repr(each.text) for each in found])),
            )
        ],
        checks=checks,
        notes=notes,
    )


def _power(log_p: Float[np.ndarray, "labels"], p: Float[np.ndarray, "labels"], temperature: float) -> Check:
    """P^(1/T) over its sum is the Boltzmann distribution of E = −log P."""
    exponent = 1 / Decimal(temperature)  # decimal numbers hold what float64 would round to 0
    powers = [Decimal(each).exp() ** exponent for each in (log_p - log_p.max()).tolist()]
    total = sum(powers)
    gap = max(abs(float(power / total) - share) for power, share in zip(powers, p.tolist(), strict=True))
    return Check(
        "p = P^(1/T) / Σ P^(1/T)", "powers of the probabilities in decimal, without energies", gap, 1e-9
    )


def _loss(
    labels: Sequence[str], log_p: Float[np.ndarray, "labels"], target: int, temperature: float
) -> Reading:
    """The card's last line as numbers: the loss above the free energy, and its gradient."""
    y = np.array(target)
    p, cost = boltzmann.probabilities(log_p, temperature), float(loss.loss(log_p, y, temperature))
    if temperature == 0:
        gradient: list[float | None] = [None] * len(labels)
        step = "at T = 0 it has no gradient"
    else:
        with np.errstate(over="ignore"):  # 1/T at a tiny T
            slope: list[float] = loss.gradient(log_p, y, temperature).tolist()
        gradient = [*slope]
        step = (
            f"descending it raises the target's −E by {-slope[target] + 0.0:.4g} a unit of rate and lowers "
            f"the others' by as much together, until model and data agree"
        )
    rows = [
        (label, float(share), float(index == target), each)
        for index, (label, share, each) in enumerate(zip(labels, p, gradient, strict=True))
    ]
    return Reading(
        findings=[
            f"The loss of {labels[target]!r} is (E − F)/T = −log p = {cost:.4g} nats. Its gradient is the "
            f"model's average less the data's, (p − 1)/T: {step}."
        ],
        tables=[
            Table(
                "loss",
                f"The loss of {labels[target]!r}, {cost:.4g} nats, and its gradient: model against data",
                LOSS,
                rows,
            )
        ],
        checks=_loss_checks(log_p, target, min(max(temperature, COLDEST), HOTTEST)),
    )


def _loss_checks(log_p: Float[np.ndarray, "labels"], target: int, temperature: float) -> list[Check]:
    y, at = np.array(target), f"at T = {temperature:g}"
    cost = float(loss.loss(log_p, y, temperature))
    if math.isinf(cost):
        return []  # the target has no mass of its own, and no difference can be taken
    log_p = log_p - log_p.max()  # a small step of a large number would have few digits
    above = -float(log_p[target]) - float(boltzmann.thermodynamics(log_p, temperature).free_energy)
    size = STEP * temperature
    shifts = size * np.eye(len(log_p))
    difference = [
        (loss.loss(log_p + shift, y, temperature) - loss.loss(log_p - shift, y, temperature)) / (2 * size)
        for shift in shifts
    ]
    gap = np.abs(difference - loss.gradient(log_p, y, temperature)).max() * temperature
    return [
        Check(
            "−log p = (E − F)/T", f"the loss, and energy less free energy, {at}",
            abs(above / temperature - cost) / max(1.0, cost), EXACT,
        ),
        Check(
            "∂loss/∂(−E) = (p − 1)/T", f"the gradient, and central differences, {at}, in units of 1/T",
            float(gap) / max(1.0, cost), 1e-6,
        ),
    ]  # fmt: skip
