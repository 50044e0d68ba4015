"""A trace in the reading of the card memory."""

import pytest

import thermoscope as ts
from tests.planning.memory.shapes import SMALL
from thermoscope.errors import InvalidRequest
from thermoscope.instruments._tracing import tracing
from thermoscope.planning.memory.training import WORKSPACE, Training, plan
from thermoscope.tuning import process

PLAN = plan(Training(shape=SMALL, method="full", sequence=64))
PLANNED = {phase: sum(items.values()) - WORKSPACE for phase, items in PLAN.phases.items()}


def test_the_two_stand_side_by_side_phase_by_phase():
    part = tracing(PLAN, {phase: size / 1.01 for phase, size in PLANNED.items()})
    (table,) = part.tables
    assert [row[0] for row in table.rows] == ["forward", "loss", "backward", "step", "peak"]
    assert [row[3] for row in table.rows] == pytest.approx([1.0] * 5)
    (check,) = part.checks
    assert check.passed
    assert check.residual == pytest.approx(0.01)


@pytest.mark.parametrize(("off", "passed"), [(1.029, True), (1 / 1.029, True), (1.04, False), (0.96, False)])
def test_a_peak_that_is_off_by_more_than_three_percent_does_not_pass(off, passed):
    (check,) = tracing(PLAN, {phase: size / off for phase, size in PLANNED.items()}).checks
    assert check.passed == passed


def test_a_reading_has_it_where_it_is_asked_for(monkeypatch):
    """docs/cards/memory.md shows a real one, which tests/test_docs.py takes."""
    monkeypatch.setattr(process, "traced", lambda _, watch: watch() or PLANNED)
    plain, reading = (ts.read("memory", model="llama-2-7b", trace=trace) for trace in (False, True))
    assert {each.name for each in reading.checks} - {each.name for each in plain.checks} == {"plan = trace"}
    assert reading.table("trace").rows[-1][2] == max(PLANNED.values()) / 2**30


def test_what_it_does_not_cover_is_refused_before_anything_runs():
    with pytest.raises(InvalidRequest, match="trace: got method qlora, expected full or lora"):
        ts.read("memory", model="smollm2-135m", method="qlora", seq=64, trace=True)
