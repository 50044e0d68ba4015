"""The fit recovers costs that times were made from; a real measurement is a slow test."""

import pytest
import torch

from thermoscope.catalogue.architecture import Architecture
from thermoscope.instruments import _calibration as calibration
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.prediction import step
from thermoscope.planning.latency.work import Pass, components

COSTS = dict(zip(calibration.KINDS, (4e-11, 2e-12, 5e-12, 8e-11, 3e-6, 2e-4), strict=True))


def made(costs):
    """Timings of every run, were these the costs, summed component by component."""
    for index, config in enumerate(calibration.SHAPES):
        shape = Architecture.of(config, "random")
        for batch, new, past in calibration.RUNS:
            run = Pass(
                batch=batch,
                new=new,
                past=past,
                format=FORMATS["q4_1"],
                precision="bf16",
                activations=4,
                cache=2.0,
            )
            works = components(shape, run)
            seconds = costs["pass"]
            for work in works:
                moved = work.kind not in ("product", "attention")
                one = costs["overhead"] * work.kernels
                if work.kind == "product":
                    one += work.bytes * costs["product memory"] + work.flops * costs["product compute"]
                if work.kind == "attention":
                    one += work.flops * costs["attention"]
                one += work.bytes * costs["moved"] * (moved or work.kind == "attention")
                seconds += work.count * one
            yield calibration.Timing(index, (batch, new, past), seconds, works)


def test_the_fit_recovers_what_times_were_made_from():
    found = calibration.fit(list(made(COSTS)), 3e10)
    assert found.costs == pytest.approx(COSTS, rel=1e-6)
    assert found.residual < 1e-9


def test_no_cost_falls_below_zero():
    shaken = [
        each._replace(seconds=each.seconds * (1.3 if at % 2 else 0.8)) for at, each in enumerate(made(COSTS))
    ]
    costs = calibration.fit(shaken, 3e10).costs
    assert min(costs.values()) >= 0
    assert costs["product memory"] >= 1 / 3e10


def test_the_profile_predicts_what_was_measured():
    timed = list(made(COSTS))
    profile = calibration.profiled(3e10, {"int4": calibration.fit(timed, 3e10)}, threads=2)
    for each in timed:
        taken = step(each.works, profile.device, machine.framework("q4_1"), profile.efficiency)
        assert taken.seconds == pytest.approx(each.seconds, rel=0.02)


def test_random_weights_make_every_part_of_a_decoder():
    config = calibration.SHAPES[0]
    weights = calibration.Random(config)
    assert weights.has("layers.23.down")
    assert not weights.has("layers.24.down")
    assert weights.read("layers.0.down").shape == (512, 1536)
    assert torch.equal(
        calibration.Random(config).read("embedding"), calibration.Random(config).read("embedding")
    )
