"""Self-BLEU against values by hand, and against the definition spelled out passage by passage."""

import math

import numpy as np
import pytest

from benchmarks.studies.bleu import self_bleu


def test_two_passages_that_differ_at_the_end_by_hand():
    precisions = (4 / 5, 3 / 4, 2 / 3, 1 / 2)
    assert self_bleu([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]]) == pytest.approx(math.prod(precisions) ** 0.25)


def test_a_passage_shorter_than_its_reference_is_penalised():
    short, long = self_bleu([[1, 2, 3, 4], [1, 2, 3, 4, 5]])
    assert short == pytest.approx(math.exp(1 - 5 / 4))
    assert long == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)


def test_equal_passages_have_one_and_strangers_almost_nothing():
    assert self_bleu([[1, 2, 3, 4, 5]] * 3) == pytest.approx(1)
    expected = (0.1 / 5 * 0.1 / 4 * 0.1 / 3 * 0.1 / 2) ** 0.25
    assert self_bleu([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]) == pytest.approx(expected)


def test_random_passages_against_the_definition():
    dice = np.random.default_rng(0)
    for _ in range(20):
        passages = [dice.integers(4, size=dice.integers(1, 15)).tolist() for _ in range(6)]
        expected = [bleu(each, passages[:at] + passages[at + 1 :]) for at, each in enumerate(passages)]
        assert self_bleu(passages) == pytest.approx(expected)


def bleu(candidate, references):
    score = 1.0
    for order in (1, 2, 3, 4):
        grams = slices(candidate, order)
        matched = 0
        for gram in {tuple(each) for each in grams}:
            said = sum(each == list(gram) for each in grams)
            held = max(sum(each == list(gram) for each in slices(other, order)) for other in references)
            matched += min(said, held)
        score *= ((matched if matched else 0.1) / (len(grams) or 1)) ** (1 / 4)
    gaps = sorted((abs(len(other) - len(candidate)), len(other)) for other in references)
    closest = gaps[0][1]
    return score if len(candidate) >= closest else score * math.exp(1 - closest / len(candidate))


def slices(passage, order):
    return [passage[at : at + order] for at in range(len(passage)) if at + order <= len(passage)]
