"""The fit recovers costs that times were made from; bands hold what was left out."""

import numpy as np
import pytest

from thermoscope.instruments import _calibration as calibration
from thermoscope.instruments._trial import RUNS, SHAPES, Handed, Timing
from thermoscope.planning.latency.costs import LAYERS, Costs

UNITS = dict(zip(LAYERS, (4e-11, 2e-12, 8e-11, 3e-6), strict=True))
HANDED = Handed({1: 1e-4, 8: 2e-4}, 1e-3)


def table(rows):
    return {name: [(each, unit * (1 + each / 10)) for each in rows] for name, unit in UNITS.items()}


BATCHES = (1, 2, 4, 8)
TRUTH = Costs(
    table(BATCHES), table((1, 16, 128)), [(each, 5e-11 * each) for each in BATCHES],
    [(each, 1e-9) for each in BATCHES], [(each, 1e-5 * each) for each in BATCHES],
    [(1, 1e-4), (8, 2e-4)], 1e-3,
)  # fmt: skip


def made(shake=1.0):
    """Timings of every run, were these the costs; every second step of them takes longer."""
    found = []
    for shape in range(len(SHAPES)):
        for run in RUNS:
            empty = Timing(shape, run, {})
            parts = {"layers": 0.0, "head": 0.0, "sampler": 0.0}
            for work in calibration._works(empty):
                name = "head" if work.name == "head" else "sampler" if work.kind == "sampling" else "layers"
                parts[name] += sum(TRUTH.seconds(work, calibration.passed(run)))
            found.append(
                Timing(shape, run, {name: [each, each, each * shake] for name, each in parts.items()})
            )
    return found


def flat(costs):
    every = {
        f"{phase}.{name}": points
        for phase in ("decode", "prefill")
        for name, points in getattr(costs, phase).items()
    }
    every |= {name: getattr(costs, name) for name in ("head", "sampling", "draw", "python")}
    return {(name, rows): seconds for name, points in every.items() for rows, seconds in points}


def test_the_fit_recovers_what_times_were_made_from():
    found = calibration.fit(made(), HANDED)
    assert flat(found) == pytest.approx(flat(TRUTH), rel=1e-6)
    assert found.request == HANDED.request


def test_no_cost_falls_below_zero():
    assert calibration.least([[1, 1], [1, 2]], [3, 1]) == [pytest.approx(1.2), 0]
    assert calibration.least([[0.0, 2.0]], [4.0]) == [0.0, 2.0]


def test_the_costs_are_the_best_of_those_that_do_not_fall_below_zero():
    """The error would grow along every cost that is zero, and is level along the others.

    In turn 705, whoever drops the most negative cost until none is left drops one too many.
    """
    for turn in [*range(50), 705]:
        rng = np.random.default_rng(turn)
        amounts = rng.random((8, 4))
        seconds = amounts @ np.abs(rng.normal(size=4)) * rng.lognormal(sigma=0.5, size=8)
        found = np.array(calibration.least(amounts, seconds))
        wanted = amounts / seconds[:, None]
        slopes = wanted.T @ (wanted @ found - 1) / wanted.max(axis=0)
        assert (found >= 0).all()
        assert slopes[found > 0] == pytest.approx(0, abs=1e-9)
        assert (slopes[found == 0] > -1e-9).all()


def test_a_shape_that_was_left_out_is_foretold():
    ratios = calibration.left_out(made(shake=1.5), HANDED)
    assert len(ratios) == len(SHAPES) * len(RUNS)
    for each in ratios.values():
        assert each == pytest.approx([1, 1, 1.5], rel=1e-6)


def test_the_profile_has_bands_as_wide_as_the_steps_lay():
    profile = calibration.profiled(3e10, {"int4": (made(shake=1.5), HANDED)}, threads=2)
    decode = profile.spreads["int4"]["decode"]
    assert (decode.low, decode.high) == pytest.approx((1, 1.5), rel=1e-6)
    assert decode.rows == 3 * len(SHAPES) * 8
    assert profile.device.measured_rates["fp32"] == pytest.approx(2 * 128 / (4e-11 * 13.8))
