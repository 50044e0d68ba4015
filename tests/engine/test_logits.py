import numpy as np

from thermoscope.engine.logits import Logits, among

ROW = np.array([0.5, 1.5, 2.5, 3.5], dtype=np.float32)


def test_changed_logits_are_seen_one_by_one_and_all_together():
    logits = Logits(ROW, np.array([1, 3]), np.array([-7.0, 0.25]))
    assert logits.all.tolist() == [0.5, -7.0, 2.5, 0.25]
    assert logits.at(np.array([3, 0, 1])).tolist() == [0.25, 0.5, -7.0]
    assert logits.row.tolist() == ROW.tolist()
    assert logits.all.dtype == np.float64


def test_a_row_that_nothing_changed():
    logits = Logits(ROW, np.arange(0), np.zeros(0))
    assert logits.all.tolist() == ROW.tolist()
    assert logits.at(np.array([2])).tolist() == [2.5]


def test_members_are_found_among_rising_ids():
    assert among(np.array([9, 2, 0, 5]), np.array([2, 5, 8])).tolist() == [False, True, False, True]


def test_some_tokens_alone_keep_their_ids_and_their_changes():
    some = Logits(ROW, np.array([1, 3]), np.array([-7.0, 0.25])).only(np.array([0, 2, 3]))
    assert some.row.tolist() == [0.5, 2.5, 3.5]
    assert some.all.tolist() == [0.5, 2.5, 0.25]
    assert some.tokens(np.array([1, 2])).tolist() == [2, 3]
    assert some.tokens(None).tolist() == [0, 2, 3]
    assert Logits(ROW, np.arange(0), np.zeros(0)).tokens(None) is None


def test_some_tokens_of_which_none_was_changed():
    some = Logits(ROW, np.array([1]), np.array([-7.0])).only(np.array([0, 2]))
    assert some.touched.tolist() == []
    assert some.all.tolist() == [0.5, 2.5]
