"""Times of a component, by the formula written out."""

import math
from dataclasses import replace

import pytest

from tests.planning.latency.shapes import DEVICE, SMALL, run
from thermoscope.catalogue.hardware import hardware, names
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.efficiency import Efficiency
from thermoscope.planning.latency.roofline import ceiling, hardware_class, launches, timed
from thermoscope.planning.latency.work import Work, components

PRODUCT = Work(
    name="q", kind="product", count=3, flops=2e9, weights=1e8, traffic=5e7, rows=64, arithmetic="bf16"
)


def test_a_product_is_timed_as_the_formula_says():
    efficiency = Efficiency(
        {
            "product.memory": 0.5,
            "serving.full.memory": 0.8,
            "server.compute": 0.9,
            "overhead": 1e-3,
            "serving.overhead": 2.0,
        }
    )
    memory = 1.5e8 / 1e9 / (0.5 * 0.8)
    compute = 2e9 / 5e9 / 0.9
    got = timed(PRODUCT, DEVICE, "serving", efficiency)
    assert got.seconds == pytest.approx(3 * (math.hypot(memory, compute) + 2e-3), rel=1e-12)
    assert got.limit == "compute"


def test_few_rows_take_as_long_as_a_tile():
    efficiency = Efficiency({"overhead": 0.0})
    whole = timed(replace(PRODUCT, weights=0, traffic=0), DEVICE, "serving", efficiency).seconds
    part = timed(
        replace(PRODUCT, weights=0, traffic=0, rows=16, flops=PRODUCT.flops / 4),
        DEVICE,
        "serving",
        efficiency,
    ).seconds
    assert part == pytest.approx(whole, rel=1e-12)


def test_what_a_cache_holds_comes_faster():
    moved = Work(name="n", kind="norm", count=1, flops=0, weights=0, traffic=1e6)
    efficiency = Efficiency({"fused.norm.memory": 0.5, "server.cache": 4.0, "overhead": 0.0})
    held = replace(DEVICE, l2_bytes=500_000)  # half of it is used: a quarter of the bytes
    near, far = 250_000 / 1e9 / 2, 750_000 / 1e9 / 0.5
    assert timed(moved, held, "serving", efficiency).seconds == pytest.approx(near + far, rel=1e-12)
    assert timed(moved, DEVICE, "serving", efficiency).seconds == pytest.approx(2e-3, rel=1e-12)


def test_a_measured_ceiling_goes_before_the_datasheet():
    assert ceiling(DEVICE, "bf16") == (5e9, True)
    assert ceiling(DEVICE, "fp32") == (1e9, False)
    assert ceiling(DEVICE, "fp8") == (5e9, True)  # computed in 16 bits
    assert ceiling(hardware("T4"), "fp32") == (pytest.approx(4.35e12), True)


def test_a_rate_that_nobody_knows_is_not_infinite():
    with pytest.raises(InvalidRequest, match="no rate of one for it is known"):
        ceiling(replace(DEVICE, rates={}, measured_rates={}), "bf16")


def test_devices_that_nothing_joins_cannot_be_several():
    works = components(SMALL, run(tensor=2))
    link = next(work for work in works if work.kind == "link")
    with pytest.raises(InvalidRequest, match="how ones are joined is not known"):
        timed(link, DEVICE, "serving", Efficiency({}))
    joined = replace(DEVICE, link="NVLink", link_bandwidth=1e6)
    assert (
        timed(link, joined, "serving", Efficiency({"link.overhead": 0.0})).seconds
        == link.count * link.traffic / 1e6
    )


def test_every_device_has_a_class_and_the_known_ones_theirs():
    assert {hardware_class(hardware(name)) for name in names()} == {"server", "desktop", "capped", "unified"}
    known = {
        "T4": "capped",
        "L4": "capped",
        "A100-SXM4-80GB": "server",
        "RTX 4090": "desktop",
        "H20-96GB": "server",
    }
    assert {name: hardware_class(hardware(name)) for name in known} == known


def test_launches_are_kernels_without_links():
    works = components(SMALL, run(tensor=2))
    assert launches(works) == sum(work.count * work.kernels for work in works if work.kind != "link")


def test_few_rows_take_the_time_of_one_on_one_multiprocessor():
    efficiency = Efficiency({"fused.norm.row": 0.5, "overhead": 0.0})
    device = replace(DEVICE, multiprocessors=100)
    row = Work(name="norms", kind="norm", count=1, flops=0, weights=0, traffic=1e3)
    alone = 1e3 * 100 / 1e9 / 0.5  # a hundredth of the bandwidth, half of it reached
    got = timed(row, device, "serving", efficiency).seconds
    assert got == pytest.approx((alone**2 + (1e3 / 1e9) ** 2) ** 0.5, rel=1e-12)
    many = replace(row, traffic=1e9, rows=1_000_000)
    assert timed(many, device, "serving", efficiency).seconds == pytest.approx(1.0, rel=1e-6)


def test_a_gather_takes_a_few_rows_one_after_another():
    efficiency = Efficiency({"eager.gather": 2.0, "overhead": 0.0})
    rows = Work(name="embedding", kind="embedding", count=1, flops=0, weights=0, traffic=1.0, rows=8)
    assert timed(rows, DEVICE, "eager", efficiency).seconds == pytest.approx(4e-6, rel=1e-6)
    device = replace(DEVICE, l2_bytes=2**20)  # of no help to a table that nothing wrote
    many = replace(rows, traffic=1e3, rows=17)
    assert timed(many, device, "eager", efficiency).seconds == pytest.approx(1e-6, rel=1e-6)
