import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thermoscope.errors import InvalidRequest
from thermoscope.laws import calibration
from thermoscope.laws.bootstrap import RESAMPLES, interval
from thermoscope.laws.calibration import (
    Answers,
    expected_calibration_error,
    fit,
    nll,
    refitted,
    reliability,
)

repeatable = settings(derandomize=True, deadline=None)


def labelled(seed, rows=300, vocab=50, temperature=1.0):
    """Logits, and labels drawn from them at a temperature by numpy's own generator."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=4, size=(rows, vocab)).astype(np.float32)
    return logits, (logits / temperature + rng.gumbel(size=logits.shape)).argmax(axis=1)


def slope(logits, labels, temperature):
    """d NLL / dβ by autograd, in torch."""
    z = torch.tensor(logits, dtype=torch.float64)
    beta = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
    torch.nn.functional.cross_entropy(beta * z, torch.tensor(labels)).backward()
    return beta.grad.item()


@pytest.mark.parametrize("right", [1, 501, 900, 999])
@pytest.mark.parametrize("gap", [1e-3, 1.0, 30.0, 1e4])
def test_two_classes_with_one_gap_have_their_known_temperature(gap, right):
    # p(best) = 1 / (1 + exp(-gap / T)) is to be the share that is right, if that is more than half.
    logits = np.tile([gap, 0.0], (1000, 1))
    labels = (np.arange(1000) >= right).astype(int)
    exact = gap / math.log(right / (1000 - right)) if right > 500 else math.inf
    assert fit(logits, labels) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0, 3.0, 50.0])
def test_the_slope_is_zero_there_and_the_drawn_temperature_near(temperature):
    logits, labels = labelled(1, temperature=temperature)
    found = fit(logits, labels)
    assert abs(slope(logits, labels, found)) <= 1e-12 * np.abs(logits).max()
    # The information of 300 rows on beta is their summed variance of z: 4 sigma.
    beta = torch.tensor(1 / temperature, dtype=torch.float64)
    z = torch.tensor(logits, dtype=torch.float64)
    p = torch.softmax(beta * z, 1)
    information = float(((p * z * z).sum(1) - (p * z).sum(1) ** 2).sum())
    assert abs(1 / found - 1 / temperature) <= 4 / math.sqrt(information)


@repeatable
@given(
    st.lists(
        st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=4, max_size=4), min_size=1, max_size=9
    ),
    st.integers(-12, 12),
    st.data(),
)
def test_no_other_temperature_has_less_loss(rows, power, data):
    logits = np.array(rows) * 2.0**power
    labels = np.array([data.draw(st.integers(0, 3)) for _ in rows])
    found = fit(logits, labels)
    best = nll(logits, labels, found)
    for temperature in (0.0, *(2.0**power * 2.0 ** np.arange(-8, 8.5, 0.5)), math.inf):
        assert best <= nll(logits, labels, temperature) * (1 + 1e-14) + 1e-14
    assume(0 < found < math.inf and np.ptp(logits, axis=1).any())
    assert fit(2**5 * logits, labels) == pytest.approx(2**5 * found, rel=1e-11)


def test_a_fit_can_be_ended_between_its_passes():
    asked = []

    def watch():
        asked.append(None)
        if len(asked) == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(*labelled(1, temperature=5.0), watch=watch)
    assert len(asked) == 4


def drawn(groups, seed):
    """The rows of each resample, group by group, from the same dice as `bootstrap`."""
    dice, count = np.random.default_rng(seed), int(groups.max()) + 1
    for times in dice.multinomial(count, [1 / count] * count, size=RESAMPLES):
        yield np.repeat(np.arange(len(groups)), times[groups])


@pytest.mark.parametrize(("temperature", "documents"), [(0.4, 60), (1.0, 300), (2.5, 12)])
def test_refitting_resamples_is_a_fit_of_each_of_them(temperature, documents):
    logits, labels = labelled(9, vocab=8, temperature=temperature)
    groups = np.arange(300) % documents
    found = refitted(logits, labels, groups, fit(logits, labels), seed=3)
    assert found.shape == (RESAMPLES,)
    for rows, each in list(zip(drawn(groups, 3), found, strict=True))[:60]:
        assert each == pytest.approx(fit(logits[rows], labels[rows]), rel=2e-3)


def test_a_resample_may_have_its_temperature_at_an_end():
    # One row in ten has another label than its best: without it T* is 0, and with many of it infinite.
    logits, labels = np.tile([1.0, 0.0], (10, 1)), np.array([1, *[0] * 9])
    found = refitted(logits, labels, np.arange(10), fit(logits, labels))
    for rows, each in zip(drawn(np.arange(10), 0), found, strict=True):
        wrong = labels[rows].sum()
        assert (each == 0) == (wrong == 0)
        assert math.isinf(each) == (wrong >= 5)


def test_95_of_100_intervals_hold_the_temperature_that_labels_were_drawn_at():
    """300 rows, 200 trials: 4 sigma of 0.95 are 0.06, so this fails by chance once in 16,000."""
    held = 0
    for seed in range(200):
        logits, labels = labelled(seed, vocab=6, temperature=1.7)
        low, high = interval(refitted(logits, labels, np.arange(300), fit(logits, labels)))
        held += low <= 1.7 <= high
    assert 0.88 <= held / 200 <= 1


def test_the_ends_and_the_middle_of_nowhere():
    logits, _ = labelled(2)
    assert fit(logits, logits.argmax(axis=1)) == 0
    assert fit(100 * logits, logits.argmax(axis=1)) == 0
    assert fit(logits, logits.argmin(axis=1)) == math.inf
    assert fit(1e4 * logits, logits.argmin(axis=1)) == math.inf
    assert fit(np.zeros((3, 5)), np.array([0, 1, 2])) == 1


def test_ties_are_left_even_at_zero_where_a_fit_may_end():
    logits, labels = np.array([[1.0, 1.0, 0.0]]), np.array([1])
    assert fit(logits, labels) == 0
    assert nll(logits, labels, 0.0) == nll(logits, labels, 1e-6) == pytest.approx(math.log(2))
    assert nll(logits, np.array([2]), 0.0) == math.inf


def test_tokens_that_were_cut_off_do_not_count():
    logits, labels = labelled(3, temperature=2.0)
    wide = np.full((300, 60), -np.inf, dtype=np.float32)
    wide[:, 5:55] = logits
    assert fit(wide, labels + 5) == pytest.approx(fit(logits, labels), rel=1e-12)
    assert fit(wide, wide.argmin(axis=1) * 0 + 5 + logits.argmin(axis=1)) == math.inf


def test_a_constant_for_each_row_changes_nothing():
    logits, labels = labelled(8, temperature=0.8)
    logits = np.round(logits * 2**16).astype(float) / 2**16  # on a grid, so that the sum is not rounded
    moved = logits + np.arange(300.0)[:, None]
    assert fit(moved, labels) == fit(logits, labels)
    assert nll(moved, labels, 0.7) == nll(logits, labels, 0.7)
    assert reliability(moved, labels) == reliability(logits, labels)


def test_blocks_change_nothing_and_need_little_memory(monkeypatch):
    logits, labels = labelled(4, rows=64, vocab=49_152, temperature=1.5)
    tracemalloc.start()
    found, table = fit(logits, labels), reliability(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 8 * 49_152
    monkeypatch.setattr(calibration, "BLOCK", 10**9)
    assert fit(logits, labels) == pytest.approx(found, rel=1e-12)
    assert [each.count for each in reliability(logits, labels)] == [each.count for each in table]


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 4.0, math.inf])
def test_nll_is_the_mean_cross_entropy(temperature):
    logits, labels = labelled(5)
    if temperature == 0:
        assert nll(logits, logits.argmax(axis=1), temperature) == 0
        assert nll(logits, labels, temperature) == math.inf
    else:
        z = torch.tensor(logits, dtype=torch.float64) / temperature
        exact = torch.nn.functional.cross_entropy(z, torch.tensor(labels)).item()
        assert nll(logits, labels, temperature) == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("bins", [1, 4, 15])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_the_reliability_table_is_a_loop_over_the_rows(bins, temperature):
    logits, labels = labelled(6, temperature=1.5)
    inside = {m: [] for m in range(bins)}
    for row, label in zip(logits.astype(float), labels, strict=True):
        weights = [math.exp((z - max(row)) / temperature) if temperature else z == max(row) for z in row]
        confidence = 1 / math.fsum(weights)
        (m,) = (m for m in range(bins) if m / bins < confidence <= (m + 1) / bins)
        inside[m].append((confidence, row.tolist().index(max(row)) == label))
    table = reliability(logits, labels, temperature, bins=bins)
    error = 0.0
    for m, each in zip([m for m in inside if inside[m]], table, strict=True):
        confidence, accuracy = (sum(values) / len(values) for values in zip(*inside[m], strict=True))
        assert (each.low, each.high, each.count) == (m / bins, (m + 1) / bins, len(inside[m]))
        assert each.confidence == pytest.approx(confidence, rel=1e-12)
        assert each.accuracy == pytest.approx(accuracy, rel=1e-12)
        error += len(inside[m]) / len(labels) * abs(accuracy - confidence)
    assert expected_calibration_error(table) == pytest.approx(error, rel=1e-12)


def test_a_confidence_on_the_border_belongs_to_the_lower_bin():
    (only,) = reliability(np.zeros((3, 2)), np.array([0, 0, 1]), bins=2)
    assert (only.low, only.high, only.count, only.confidence) == (0, 0.5, 3, 0.5)
    assert only.accuracy == pytest.approx(2 / 3)
    assert expected_calibration_error([only]) == pytest.approx(1 / 6)


@pytest.mark.parametrize("count", [40, 400])
def test_the_error_by_chance_is_the_mean_of_many_draws(count):
    rng = np.random.default_rng(11)
    confidence = 0.1 + 0.85 * rng.random(count)
    errors = [
        expected_calibration_error(Answers(confidence, rng.random(count) < confidence).table())
        for _ in range(2000)
    ]
    # The normal's mean for a bin's: within 5% at two or three rows a bin, and 2000 draws are within 1%.
    exact = Answers(confidence, confidence > 0).error_by_chance()
    assert exact == pytest.approx(np.mean(errors), rel=0.05)


def test_the_gaps_of_the_rows_add_up_to_the_error():
    found = calibration.answers(*labelled(10), 1.3)
    error = np.abs(found.gaps().sum(axis=0)).sum() / 300
    assert error == pytest.approx(expected_calibration_error(reliability(*labelled(10), 1.3)), rel=1e-12)


def test_the_fitted_temperature_mends_the_calibration():
    logits, labels = labelled(7, rows=3000, temperature=2.5)
    before, after = (
        expected_calibration_error(reliability(logits, labels, t)) for t in (1.0, fit(logits, labels))
    )
    assert before > 0.3
    assert after < 0.03


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(3), [0], r"logits: got shape \(3,\), expected rows of logits, one for each label\."),
        (np.zeros((0, 3)), [], r"logits: got shape \(0, 3\), expected rows"),
        (np.zeros((2, 3)), [0, 3], r"labels: got 3, expected token ids, 0 to 2\."),
        (np.array([[0.0, 1.0], [math.nan, 1.0]]), [0, 0], "logits: got NaN, expected"),
    ],
)
def test_what_is_not_labelled_logits_is_refused(logits, labels, message):
    for law in (fit, nll, reliability):
        with pytest.raises(InvalidRequest, match=message):
            law(logits, np.array(labels, dtype=int))


def test_a_label_that_was_cut_off_has_no_best_temperature():
    with pytest.raises(InvalidRequest, match="labels: got one whose logit is -inf, expected"):
        fit(np.array([[0.0, -math.inf]]), np.array([1]))


def test_no_bins_are_refused():
    with pytest.raises(InvalidRequest, match="bins: got 0, expected a whole number, 1 or more"):
        reliability(np.zeros((1, 2)), np.array([0]), bins=0)
