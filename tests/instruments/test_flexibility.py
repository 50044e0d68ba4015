"""Held against loops over Python floats, on a tiny random model."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from tests import tiny
from tests.instruments.loops import nucleus, rows, softmax
from thermoscope.instruments._flexibility import equal_k, flexibility, greatest
from thermoscope.instruments._passage import given, spoken

TEXT = "It_was_a_bright_cold_day_in_April."


@pytest.fixture(scope="module")
def lab(tiny_lab):
    return tiny_lab


@pytest.fixture(scope="module")
def passage(lab):
    return given(lab, "Once", TEXT, "text", chat=False)


def named(reading, start):
    return next(check for check in reading.checks if check.name.startswith(start))


@drawn(st.lists(st.integers(1, 500), min_size=1, max_size=50))
def test_k_is_the_whole_number_nearest_to_the_mean(sizes):
    gaps = [abs(k * len(sizes) - sum(sizes)) for k in range(1, 501)]
    assert gaps[equal_k(sizes) - 1] == min(gaps)


@drawn(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.data())
def test_the_greatest_are_the_head_of_a_sort(p, data):
    k = data.draw(st.integers(1, len(p)))
    assert sorted(greatest(np.array(p), k)) == sorted(p)[-k:]


@pytest.mark.parametrize(("top_p", "temperature"), [(0.9, 1.0), (0.5, 0.7), (0.8, 2.0)])
def test_sizes_masses_and_counts_are_a_loop_s(lab, passage, top_p, temperature):
    p = [softmax(row.tolist(), temperature) for row in passage.rows(lab)]
    kept = [nucleus(each, top_p) for each in p]
    sizes = [len(each) for each in kept]
    k = min(range(1, tiny.VOCAB + 1), key=lambda k: abs(k - sum(sizes) / len(sizes)))
    nuclear = [math.fsum(each[token] for token in ids) for each, ids in zip(p, kept, strict=True)]
    fixed = [math.fsum(sorted(each)[-k:]) for each in p]

    reading = flexibility(lab, passage, top_p, temperature)

    places = rows(reading.table("positions"))
    assert len(places) == len(TEXT)
    assert "".join(place["token"] for place in places) == TEXT
    assert [place["size"] for place in places] == sizes
    assert [place["inside"] for place in places] == [
        token in ids for token, ids in zip(passage.text, kept, strict=True)
    ]
    for key, expected in (
        ("mass", nuclear),
        ("top_k_mass", fixed),
        ("top_probability", [max(each) for each in p]),
        ("entropy", [-math.fsum(x * math.log(x) for x in each) for each in p]),
    ):
        assert [place[key] for place in places] == pytest.approx(expected, abs=1e-12)
    for row, name, mass, size in zip(
        reading.table("filters").rows,
        (f"top_p = {top_p:g}", f"top_k = {k}"),
        (nuclear, fixed),
        (sum(sizes) / len(sizes), k),
        strict=True,
    ):
        mean = math.fsum(mass) / len(mass)
        spread = math.sqrt(math.fsum((each - mean) ** 2 for each in mass) / len(mass))
        short = sum(each < top_p for each in mass)
        more = 0 if name.startswith("top_p") else sum(each < k for each in sizes)
        assert row[0] == name
        assert row[1:5] == pytest.approx((size, mean, min(mass), spread), abs=1e-12)
        assert row[5:] == (short, more)
    assert reading.passed
    assert 0 < sum(size < k for size in sizes) < len(sizes)  # both kinds of position are there


def test_quantiles_are_sizes_that_occur(lab, passage):
    reading = flexibility(lab, passage, 0.9, 1.0)
    sizes = sorted(row["size"] for row in rows(reading.table("positions")))
    for share, size in reading.table("quantiles").rows:
        assert size == sizes[max(0, math.ceil(share * len(sizes)) - 1)]


def test_the_flattest_and_the_sharpest_contexts_are_named(lab, passage):
    reading = flexibility(lab, passage, 0.9, 1.0)
    places = rows(reading.table("positions"))
    order = sorted(places, key=lambda place: (place["size"], place["entropy"]))
    found = rows(reading.table("contexts"))
    expected = [*order[: -3 - 1 : -1], *order[:3]]
    assert [each["position"] for each in found] == [each["position"] for each in expected]
    assert [each["shape"] for each in found] == ["flattest"] * 3 + ["sharpest"] * 3
    for each in found:
        end = len("Once") + each["position"]
        assert each["context"] == ("Once" + TEXT)[max(0, end - 8) : end]
    assert any(repr(order[-1]["context"]) in finding for finding in reading.findings)


@pytest.mark.parametrize(
    ("top_p", "temperature", "size"), [(0.0, 1.0, 1), (1.0, 1.0, 96), (0.9, 0.0, 1), (0.5, math.inf, 48)]
)
def test_at_the_ends_every_position_has_the_same_size(lab, passage, top_p, temperature, size):
    reading = flexibility(lab, passage, top_p, temperature)
    assert {row["size"] for row in rows(reading.table("positions"))} == {size}
    assert [row[5:] for row in reading.table("filters").rows] == [(0, 0), (0, 0)]
    assert reading.passed


def test_one_position_will_do(lab):
    reading = flexibility(lab, given(lab, "Once", "!", "text", chat=False), 0.9, 1.0)
    assert len(reading.table("positions").rows) == 1
    assert [row[0] for row in reading.table("contexts").rows] == ["flattest", "sharpest"]
    assert reading.passed


def test_a_record_that_is_wrong_is_found(lab):
    passage = spoken(lab, lab.tokens("Once"), max_tokens=12, top_p=0.8, seed=1, ignore_eos=True)
    assert named(flexibility(lab, passage, 0.8, 1.0), "recorded set").residual < 1e-4
    step = passage.trace.steps[4]
    p = sorted(softmax(list(passage.rows(lab))[4].tolist(), 1.0), reverse=True)
    for change in (
        {"kept": step.record.kept + 3},
        {"removed_mass": step.record.removed_mass + 0.01},
        *(  # another set, and its mass is right
            {"kept": kept, "removed_mass": math.fsum(p[kept:])}
            for kept in (step.record.kept - 1, step.record.kept + 1)
        ),
    ):
        wrong = dataclasses.replace(step, record=dataclasses.replace(step.record, **change))
        steps = [*passage.trace.steps[:4], wrong, *passage.trace.steps[5:]]
        trace = dataclasses.replace(passage.trace, steps=steps)
        reading = flexibility(lab, dataclasses.replace(passage, trace=trace), 0.8, 1.0)
        assert not named(reading, "recorded set").passed
