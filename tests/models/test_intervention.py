"""Interventions on the rows of a call, against loops; in a network: tests/engine/test_counterfactual."""

import pytest
import torch

from thermoscope.models.intervention import (
    Add,
    Interventions,
    Lean,
    Overwrite,
    Patch,
    Suppress,
    fingerprint,
    first_touched,
)

SLOTS = torch.tensor([0, 0, 0, 2, 2, 2, 2, 2])
POSITIONS = torch.tensor([4, 5, 6, 0, 1, 2, 3, 4])
PLACES = list(zip(SLOTS.tolist(), POSITIONS.tolist(), strict=True))


@pytest.mark.parametrize("queries", [None, (5,), (4, 6), ()])
def test_a_row_must_not_see_keys_named_for_its_slot_but_always_sees_itself(queries):
    keys = (1, 4, 5)
    found = Interventions({0: [Suppress(keys, queries, layers=(1,))]}, SLOTS, POSITIONS)
    assert found.hidden(0) is None
    for row, (slot, position) in enumerate(PLACES):
        meant = position > max(keys) if queries is None else position in queries
        expected = [slot == 0 and meant and key in keys and key != position for key in range(7)]
        assert found.hidden(1)[row].tolist() == expected


def test_suppressions_add_up():
    one, two = Suppress((1,), (5,)), Suppress((2, 3), layers=(1,))
    both = Interventions({0: [one], 2: [two]}, SLOTS, POSITIONS)
    assert torch.equal(both.hidden(0), Interventions({0: [one]}, SLOTS, POSITIONS).hidden(0))
    expected = both.hidden(0) | Interventions({2: [two]}, SLOTS, POSITIONS).hidden(1)
    assert torch.equal(both.hidden(1), expected)


def test_a_window_that_rolls_is_one_mask():
    sinks, recent = 1, 2
    rolling = [Suppress(range(sinks, query - recent + 1), [query]) for query in range(3, 7)]
    found = Interventions({0: rolling, 2: rolling}, SLOTS, POSITIONS)
    for row, (_slot, position) in enumerate(PLACES):
        expected = [sinks <= key <= position - recent for key in range(7)]
        assert found.hidden(0)[row].tolist() == expected


def test_a_fingerprint_tells_what_is_done_from_all_else():
    vector, other = torch.arange(4.0), torch.arange(4.0) + 1e-6
    changes = [
        [Add(1, vector)], [Add(2, vector)], [Add(1, other)], [Add(1, vector, [0])], [Add(1, vector, [0, 1])],
        [Add(1, vector), Add(1, vector)], [Lean(1, vector, vector, 1.0)], [Lean(1, vector, vector, 2.0)],
        [Lean(1, vector, vector, 1.0, first=3)], [Suppress([1])], [Suppress([1], [2])], [Suppress([1], [])],
        [Patch(1, [0], vector[None])],
    ]  # fmt: skip
    found = [fingerprint(each) for each in changes]
    assert len(set(found)) == len(changes)
    assert all(len(each) == 16 for each in found)
    assert fingerprint([Add(1, vector.clone().half())]) == found[0]
    assert fingerprint([Suppress(range(1, 2))]) == fingerprint([Suppress((1,))])
    assert fingerprint([]) is None


def test_the_stream_is_changed_in_order_where_it_is_meant():
    x, rows, vector = torch.randn(8, 4), torch.randn(2, 4), torch.randn(4)
    changes = [Patch(1, (6, 4), rows), Add(1, vector, (4, 0)), Add(2, vector)]
    found = Interventions({0: changes, 1: [Add(0, vector)]}, SLOTS, POSITIONS)
    expected = x.clone()
    expected[2], expected[0] = rows[0], rows[1] + vector
    assert torch.equal(found.stream(1, x), expected)
    assert torch.equal(found.stream(2, x)[:3], x[:3] + vector)
    assert torch.equal(found.stream(2, x)[3:], x[3:])
    assert found.stream(0, x) is x


def test_leaning_is_by_the_cosine_with_the_task_from_its_first_position_on():
    x, vector, task = torch.randn(8, 4), torch.randn(4), torch.randn(4)
    found = Interventions({2: [Lean(1, vector, task, 2.5, first=3)]}, SLOTS, POSITIONS)
    expected = x.clone()
    for row, (slot, position) in enumerate(PLACES):
        if slot == 2 and position >= 3:
            cosine = float(x[row] @ task) / (float(x[row].norm()) * float(task.norm()))
            expected[row] += 2.5 * cosine * vector
    torch.testing.assert_close(found.stream(1, x), expected)
    assert found.stream(0, x) is x


@pytest.mark.parametrize(
    ("change", "first"),
    [
        (Suppress((3, 5)), 6),
        (Suppress((9,)), 10),
        (Suppress((3, 5), (2, 4, 8)), 4),
        (Suppress(()), 10),
        (Suppress((3,), ()), 10),
        (Patch(1, (7, 2), torch.zeros(2, 4)), 2),
        (Add(1, torch.zeros(4)), 0),
        (Add(1, torch.zeros(4), ()), 10),
        (Lean(1, torch.zeros(4), torch.ones(4), 1.0, 6), 6),
        (Overwrite(1, (2, 6), torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)), 7),
    ],
)
def test_the_first_position_that_can_change(change, first):
    assert first_touched([change], 10) == first
    assert first_touched([change, Suppress((7,))], 10) == min(first, 8)
