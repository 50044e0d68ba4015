"""F, U, S and C against temperature, and the peak of the heat capacity."""

import math

import numpy as np
from jaxtyping import Float

from thermoscope.instruments._ensemble import ensemble
from thermoscope.instruments.shape.figure import Figure, axes, line
from thermoscope.instruments.shape.reading import Check, Column, Reading, Table, joined
from thermoscope.laws import boltzmann

PEAK = (
    Column("temperature", "T where the heat capacity is greatest", "nats", ".6g"),
    Column("heat_capacity", "C there", "", ".6g"),
    Column("entropy", "S there", "nats", ".4f"),
    Column("top_probability", "Probability of the best token there", "probability", ".4f"),
)
CURVES = (
    Column("temperature", "T", "nats"),
    Column("free_energy", "F = −T log Z, gauge-dependent", "nats of logit"),
    Column("energy", "U, gauge-dependent", "nats of logit"),
    Column("free_energy_above", "F − E_0, from the best token's energy", "nats of logit"),
    Column("energy_above", "U − E_0, likewise", "nats of logit"),
    Column("entropy", "S", "nats"),
    Column("heat_capacity", "C = Var E / T²"),
)
CURVE = tuple(10 ** (exponent / 40) for exponent in range(-80, 81))  # temperatures, 0.01 to 100

Row = Float[np.ndarray, "vocab"]


def against_temperature(z: Row, temperature: float) -> Reading:
    """F, U, S and C against T, and where C is greatest."""
    states, ground = boltzmann.curve(z, CURVE), -float(z.max())
    free, energy = states.free_energy - ground, states.energy - ground
    columns = (states.free_energy, states.energy, free, energy, states.entropy, states.heat_capacity)
    rows = list(zip(CURVE, *(each.tolist() for each in columns), strict=True))
    high = 1.2 * max(1.0, float(energy.max()))
    marks = {"asked": temperature} if CURVE[0] <= temperature <= CURVE[-1] else {}
    parts = []
    peak = _peak(z, states.heat_capacity)
    if peak is None:
        parts.append(Reading(notes=[f"C has no peak between T = {CURVE[0]:g} and {CURVE[-1]:g}."]))
    else:
        marks["peak of C"] = peak
        parts.append(_at_peak(z, peak))
    traces = [
        line(CURVE, free, "F − E_0"),
        line(CURVE, energy, "U − E_0"),
        line(CURVE, states.entropy, "S", yaxis="y2"),
        line(CURVE, states.heat_capacity, "C", yaxis="y2"),
        *(
            line([at, at], [-2 * high, high], f"T = {at:.4g}, {name}", line={"dash": "dot", "width": 1.5})
            for name, at in marks.items()
        ),
    ]
    curve = Reading(
        tables=[Table("curve", "Against T", CURVES, rows, detail=True)],
        figures=[
            Figure(
                "thermodynamics",
                "Energy, free energy, entropy and heat capacity against temperature",
                traces,
                axes(
                    "T", "nats of logit, from the best token's energy", xaxis={"type": "log"},
                    yaxis={"range": [-2 * high, high]},
                    yaxis2={
                        "title": {"text": "S in nats; C"}, "overlaying": "y", "side": "right",
                        "rangemode": "tozero", "tickmode": "auto", "showgrid": False,
                    },
                ),
            )
        ],
        checks=_slopes(z),
    )  # fmt: skip
    return joined(*parts, curve)


def _peak(z: Row, heat_capacity: Row) -> float | None:
    """T of the greatest C, by looking ever closer around the best of a grid; None at the grid's ends."""
    best = int(heat_capacity.argmax())
    if not 0 < best < len(CURVE) - 1:
        return None
    low, high = math.log(CURVE[best - 1]), math.log(CURVE[best + 1])
    for _ in range(14):  # each leaves a quarter
        grid = np.linspace(low, high, 9)
        best = int(boltzmann.curve(z, np.exp(grid)).heat_capacity.argmax())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 8)]
    return math.exp((low + high) / 2)


def _at_peak(z: Row, peak: float) -> Reading:
    state = boltzmann.thermodynamics(z, peak)
    top = float(boltzmann.probabilities(z, peak).max())
    _, second, third = ensemble(z, peak).moments()
    row = (peak, float(state.heat_capacity), float(state.entropy), top)
    return Reading(
        findings=[
            f"The heat capacity peaks at T = {peak:.4g} with C = {state.heat_capacity:.4g}: below it the "
            f"distribution freezes into its best tokens, above it melts into the vocabulary. There S = "
            f"{state.entropy:.4g} nats and the best token has {100 * top:.3g}%."
        ],
        tables=[Table("peak", "The peak of the heat capacity", PEAK, [row])],
        checks=[
            Check(
                "dC/dT = 0 at the peak",
                "where the third central moment of E is 2 T Var E, summed with math.fsum",
                abs(third / (2 * peak * second) - 1),
                1e-6,
            )
        ],
    )


def _slopes(z: Row) -> list[Check]:
    """dF/dT = −S and dS/dT = C/T, by central differences on every tenth temperature of the curve."""
    at, step = np.array(CURVE[::10]), 1e-4
    here, below, above = (boltzmann.curve(z, each) for each in (at, at * (1 - step), at * (1 + step)))
    width = 2 * step * at
    pairs = [
        ((above.free_energy - below.free_energy) / width, -here.entropy),
        ((above.entropy - below.entropy) / width * at, here.heat_capacity),
    ]
    gap = max(float((abs(one - other) / np.maximum(1, abs(other))).max()) for one, other in pairs)
    return [Check("dF/dT = −S; dS/dT = C/T", "central differences along the curve", gap, 1e-6)]
