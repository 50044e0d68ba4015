"""What is kept of a memory, and what the rest then costs, against replays."""

import numpy as np
import pytest

from tests.instruments import chains
from tests.instruments.loops import rows
from thermoscope.instruments._eviction import RANDOM, _heavy, evict
from thermoscope.models.intervention import Suppress

CUT, TOKENS = 33, sum(chains.SIZES)  # after the third step
AFTER = range(CUT, TOKENS)


@pytest.fixture(scope="module")
def table(run, any_lab):
    reading = evict(any_lab, run, CUT, chains.SINKS, 0.5, 0)
    assert reading.passed
    return {(row["kept"], row["policy"]): row for row in rows(reading.table("eviction"))}


def test_every_way_keeps_as_many_slots(table):
    """The longest step before the cut has nine tokens, the half of 33 is 16."""
    ways = {"recent", "2 sinks and recent", "heavy hitters and recent", RANDOM}
    assert table.keys() == {(kept, way) for kept in (24, 16) for way in ways} | {(24, "all but step 1")}


@pytest.mark.parametrize(
    ("kept", "policy", "gone"),
    [
        (16, "recent", range(CUT - 16)),
        (16, "2 sinks and recent", range(2, CUT - 14)),
        (24, "2 sinks and recent", range(2, CUT - 22)),
        (24, "all but step 1", range(9, 18)),
    ],
)
def test_the_cost_is_that_of_hiding_the_rest(any_lab, table, kept, policy, gone):
    assert CUT - len(gone) == kept
    plain, changed = chains.kept(any_lab), chains.kept(any_lab, [Suppress(gone, AFTER)])
    cost = (plain.logprobs - changed.logprobs)[CUT:]
    assert len(cost) == TOKENS - CUT - 1
    row = table[kept, policy]
    assert row["delta"] == pytest.approx(float(cost.mean()), abs=2e-5)
    assert row["answer"] == pytest.approx(-float(cost[-2:].sum()), abs=2e-5)
    assert (row["verdict"] is None) == (policy == RANDOM)


@pytest.mark.parametrize("kept", [8, 24])
def test_heavy_hitters_are_what_was_given_most(run, kept):
    received = run.look.received[:, :CUT].numpy()
    for layer, hidden in enumerate(_heavy(run, received, kept)):
        left = set(range(CUT)) - set(hidden.keys)
        assert hidden.layers == [layer]
        assert len(left) == kept
        assert set(range(CUT - kept // 2, CUT)) <= left
        old = sorted(range(CUT - kept // 2), key=lambda at: -received[layer, at])
        assert left - set(range(CUT - kept // 2, CUT)) == set(old[: kept - kept // 2])


def test_a_budget_of_all_but_one_slot(run, any_lab):
    reading = evict(any_lab, run, CUT, chains.SINKS, 0.99, 0)
    deltas = [row["delta"] for row in rows(reading.table("eviction")) if row["kept"] == CUT]
    assert deltas
    assert not np.any(deltas)
