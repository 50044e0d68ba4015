"""What can be measured of a distribution, and what moves with a constant that no probability knows of."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from thermoscope.instruments._ensemble import ensemble
from thermoscope.instruments.shape.reading import EXACT, Cell, Check, Column, Reading, Table
from thermoscope.laws import boltzmann

STATE = (
    Column("quantity", "What was measured; E_0 is the best token's energy"),
    Column("unit", "Its unit"),
    Column("value", "Its value at T", form=".6g"),
    Column("after", "Its value once a constant is added to every logit", form=".6g"),
    Column("moved", "The difference; None where it is infinite", form=".6g"),
    Column("theory", "What the difference must be", form=".6g"),
    Column("gauge_free", "Whether it does not depend on the constant, so that it can be measured"),
)

ROUNDING = 64 * 2**-52  # some ulp: what rounding z + c may do, relative to how far it reaches

Row = Float[np.ndarray, "vocab"]


class _Quantity(NamedTuple):
    """A measured number, its unit, and what theory says that the gauge's constant adds to it."""

    name: str
    unit: str
    value: float
    shift: float
    gauge_free: bool


def _quantities(z: Row, temperature: float, gauge: float) -> list[_Quantity]:
    state, ground = boltzmann.thermodynamics(z, temperature), -float(z.max())
    free, energy, log_z = float(state.free_energy), float(state.energy), float(state.log_z)
    shift = gauge / temperature if temperature else math.copysign(math.inf, gauge)
    nats = "nats of logit"
    return [
        _Quantity("E_0 − F", nats, ground - free, 0.0, True),
        _Quantity("U − F", nats, energy - free, 0.0, True),
        _Quantity("S", "nats", float(state.entropy), 0.0, True),
        _Quantity("Var E", "nats²", ensemble(z, temperature).moments()[1], 0.0, True),
        _Quantity("C", "", float(state.heat_capacity), 0.0, True),
        _Quantity("E_0", nats, ground, -gauge, False),
        _Quantity("U", nats, energy, -gauge, False),
        _Quantity("F", nats, free, -gauge, False),
        _Quantity("log Z", "", log_z, shift, False),
    ]


def measure(z: Row, temperature: float, gauge: float) -> Reading:
    """What is measured, and what is only a choice of zero: all of it twice, with a constant between."""
    before, after = (_quantities(each, temperature, gauge) for each in (z, z + gauge))
    value = {each.name: each.value for each in before}
    rows: list[tuple[Cell, ...]] = []
    gaps: dict[bool, list[float]] = {True: [], False: []}
    # z + c is rounded, and so is every exponent (z + c) / T: that moves a logarithm by as much, and what has
    # no gauge by as much of itself.
    reach = max(1.0, float(abs(z).max()) + abs(gauge))
    exponent = reach / temperature if 0 < temperature < 1 else reach
    for one, other in zip(before, after, strict=True):
        finite = math.isfinite(one.value) and math.isfinite(other.value)
        moved, theory = (other.value - one.value, one.shift) if finite else (None, None)
        rows.append((one.name, one.unit, one.value, other.value, moved, theory, one.gauge_free))
        if moved is not None:
            size = max(1.0, abs(one.value))
            scale = exponent * size if one.gauge_free else max(exponent, size)
            gaps[one.gauge_free].append(abs(moved - one.shift) / scale)
    return Reading(
        findings=[
            f"What can be measured: E_0 − F = {value['E_0 − F']:.4g}, U − F = T S = {value['U − F']:.4g}, "
            f"S = {value['S']:.4g} nats, Var E = {value['Var E']:.4g}, C = {value['C']:.4g}. What cannot: E, "
            f"U, F and log Z, for adding {gauge:g} to every logit moves them and no probability.",
            f"Generalisation: averaged over the model's own tokens the loss (E − F)/T is (U − F)/T = S = "
            f"{value['S']:.4g} nats (perplexity {math.exp(value['S']):.4g}), what this state costs on data "
            f"that it fits exactly. What other data cost beyond their own entropy is KL(data‖model).",
        ],
        tables=[
            Table(
                "state", f"Measured above, a choice of zero below: before and after {gauge:+g}", STATE, rows
            )
        ],
        checks=[
            Check(
                "gauge-free: no constant moves them",
                f"E_0 − F, U − F, S, Var E and C with {gauge:+g} on every logit, relative to the value "
                f"(1 at least) times max|z + c|, or times the same over T if that is more",
                max(gaps[True]),
                ROUNDING,
            ),
            Check(
                "gauge-dependent: moved as theory says",
                f"E_0, U and F by {-gauge:g}, log Z by c/T; relative to the value or to that factor",
                max(gaps[False]),
                ROUNDING,
            ),
            *_sums(z, temperature),
        ],
        notes=[
            "The card's E, Z and F are defined up to a constant: softmax cannot tell z from z + c. A raw "
            "energy compared between two prompts or two models means nothing unless both fix the same zero."
        ],
    )


def _sums(z: Row, temperature: float) -> list[Check]:
    """The law's state against sums over the physicist's column."""
    state, states = boltzmann.thermodynamics(z, temperature), ensemble(z, temperature)
    mean, variance, _ = states.moments()
    p = states.p[states.weights > 0]
    ground, entropy = float(states.energy.min()), -math.fsum(p * np.log(p))
    finite = 0 < temperature < math.inf
    pairs = [
        (float(state.energy), ground + mean),
        (float(state.entropy), entropy),
        (float(state.heat_capacity), variance / temperature / temperature if finite else 0.0),
    ]
    if temperature < math.inf:
        pairs.append((float(state.free_energy), ground - temperature * math.log(states.z)))
        pairs.append((float(state.free_energy), ground + mean - temperature * entropy))
    gap = max(abs(one - other) / max(1.0, abs(other)) for one, other in pairs)
    return [
        Check(
            "F = −T log Z = U − T S; U = Σ p E; S = −Σ p log p; C = Var E / T²",
            "the law, and sums over all tokens with math.fsum",
            gap,
            EXACT,
        )
    ]
