"""Seconds from measured costs: straight lines between rows, and each component in its own unit."""

import pytest

from tests.planning.latency.shapes import SMALL, run
from thermoscope.planning.latency.costs import LAYERS, Costs, amount, at
from thermoscope.planning.latency.work import components


def costs(**more):
    flat = {name: [(1, 1e-9), (8, 8e-9)] for name in LAYERS} | {"kernel": [(1, 1e-6)]}
    given = {"decode": flat, "prefill": {name: [(1, 1.0)] for name in LAYERS}, "request": 3e-3}
    given |= {"head": [(1, 2e-9)], "sampling": [(1, 5e-9)], "draw": [(1, 7e-6)], "python": [(1, 1e-4)]}
    return Costs(**given | more)


@pytest.mark.parametrize(
    ("rows", "seconds"), [(0.5, 1.0), (1, 1.0), (2, 3.0), (3, 5.0), (5, 5.5), (7, 6.0), (11, 7.0)]
)
def test_between_two_points_it_is_straight_and_beyond_the_last_it_goes_on(rows, seconds):
    assert at([(1, 1.0), (3, 5.0), (7, 6.0)], rows) == pytest.approx(seconds)


def test_it_never_falls_below_nothing():
    assert at([(1, 2.0), (2, 1.0)], 100) == 0
    assert at([(4, 2.0)], 100) == 2.0


def test_a_weight_counts_once_however_many_rows_meet_it():
    for batch in (1, 5):
        products = [work for work in components(SMALL, run(batch=batch)) if work.kind == "product"]
        weights = sum(work.count * amount(work) for work in products)
        assert weights == 3 * (8 * 8 * 2 + 8 * 4 * 2 + 3 * 8 * 16) + 32 * 8


def test_components_of_a_step_by_hand():
    one = run(batch=2, past=3)
    found = {work.name: costs().seconds(work, one) for work in components(SMALL, one)}
    assert found["o"] == pytest.approx((3 * 64 * 2e-9, 3 * 1e-6))
    assert found["head"] == pytest.approx((32 * 8 * 2e-9, 0))
    assert found["sampling"] == pytest.approx((2 * 32 * 5e-9, 7e-6))
    assert found["residual"] == pytest.approx((3 * 2 * 3 * 2 * 8 * 2 * 2e-9, 6 * 1e-6))


def test_a_prompt_of_several_tokens_has_its_own_costs():
    many = run(new=2)
    products = [work for work in components(SMALL, many) if work.name == "down"]
    assert costs().seconds(products[0], many)[0] == pytest.approx(3 * 8 * 16)


def test_between_the_parts_stands_python_and_the_last_piece_has_the_request():
    assert costs().between(run(batch=3)) == 1e-4
    assert costs().between(run(new=2, reading=True)) == 3e-3
    assert costs().between(run(new=1, reading=True)) == 3e-3  # 129 tokens in pieces of 128
    assert costs().between(run(new=2, reading=True, outputs=0)) == 1e-4
