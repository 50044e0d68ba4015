"""Summaries and draws by the kernel against the laws, and against plain Python; the same without a kernel."""

import math

import numpy as np
import pytest
import torch

from thermoscope.laws import boltzmann, noise, truncation
from thermoscope.models import distribution
from thermoscope.models.kernels import build

TEMPERATURES = [0.0, 0.05, 0.7, 1.0, 3.0, math.inf]


@pytest.fixture(params=[True, False], ids=["native", "laws"])
def native(request, monkeypatch):
    if request.param:
        request.getfixturevalue("kernel")
    monkeypatch.setattr(build, "available", lambda: request.param)
    return request.param


def logits(rows, vocab, seed=0):
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * 4


@pytest.mark.parametrize("vocab", [1, 5, 33, 1024, 1025, 49152])
def test_a_summary_is_what_the_laws_say_of_each_row(native, vocab):
    rows = logits(len(TEMPERATURES), vocab)
    summaries = distribution.summarise(rows, TEMPERATURES, best=20)
    for row, temperature, summary in zip(rows.double().numpy(), TEMPERATURES, summaries, strict=True):
        log_z = row.max() + math.log(math.fsum(np.exp(row - row.max())))
        probabilities = np.exp(row - log_z)
        assert summary.log_z == pytest.approx(log_z, abs=1e-12)
        assert summary.entropy == pytest.approx(-math.fsum(probabilities * (row - log_z)), abs=1e-11)
        assert summary.greatest == row.max()
        weights = boltzmann.weights(row, temperature or 1.0)
        assert summary.mass == pytest.approx(math.fsum(weights), rel=1e-13)
        ranked = sorted(range(vocab), key=lambda token: (-row[token], token))
        assert summary.best.tolist() == ranked[:20]


def test_log_z_of_rows_is_the_summary_s(native):
    rows = logits(7, 4097)
    expected = [summary.log_z for summary in distribution.summarise(rows, [1.0] * 7, best=1)]
    found = distribution.log_z(rows)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)
    assert len(distribution.log_z(rows[:0])) == 0


def test_ties_go_to_the_lower_id_wherever_they_stand(native):
    row = torch.full((1, 5000), -3.0)
    row[0, [4999, 17, 2048, 1023]] = 2.0
    (summary,) = distribution.summarise(row, [1.0], best=20)
    assert summary.best[:4].tolist() == [17, 1023, 2048, 4999]
    assert summary.best[4:].tolist() == list(range(16))
    (even,) = distribution.summarise(torch.zeros(1, 3000), [1.0], best=20)
    assert even.best.tolist() == list(range(20))
    assert even.entropy == pytest.approx(math.log(3000), abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1500, 2999])
def test_a_row_that_is_no_distribution_has_no_entropy_and_spoils_no_other(native, bad, place):
    rows = logits(3, 3000)
    (before, _, after) = distribution.summarise(rows.clone(), [1.0] * 3, best=5)
    rows[1, place] = bad
    first, broken, last = distribution.summarise(rows, [1.0] * 3, best=5)
    assert not math.isfinite(broken.entropy)
    assert (first.entropy, last.entropy) == (before.entropy, after.entropy)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_summary_does_not_depend_on_the_company_or_the_threads(rows, kernel, monkeypatch):
    table = logits(8, 30_000)
    whole = distribution.summarise(table, [0.7] * 8, best=20)
    for threads in (1, 3):
        monkeypatch.setattr(kernel, "threads", threads)
        some = distribution.summarise(table[:rows], [0.7] * rows, best=20)
        for one, other in zip(some, whole, strict=False):
            assert one[:4] == other[:4]
            assert (one.best == other.best).all()


@pytest.mark.parametrize("temperature", [1e-310, 1e-30, 0.05, 0.7, 1.0, 3.0, 1e6, math.inf])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_draw_is_the_argmax_over_the_whole_vocabulary(native, temperature, threads, kernel, monkeypatch):
    monkeypatch.setattr(kernel, "threads", threads)
    monkeypatch.setattr(kernel, "ALONE", 0)  # or one thread would look through so few
    for position in range(60):
        row = logits(1, 5000 + position, seed=position)[0].numpy()
        key = noise.key(3, 1, position)
        with np.errstate(over="ignore", divide="ignore"):
            tempered = (row.astype(np.float64) - row.max()) / temperature
        score = tempered + noise.gumbel(3, 1, position, np.arange(len(row)))
        assert distribution.draw(row, float(row.max()), temperature, key) == score.argmax()


def test_draws_follow_the_law_far_into_the_tail(native):
    """Each count within four standard deviations of its rate; the seed is fixed, so that it always holds."""
    row = np.array([0.0, -1.0, -3.0, -6.0, -8.0], dtype=np.float32)
    draws = 40_000
    counts = np.bincount(
        [distribution.draw(row, 0.0, 1.0, noise.key(1, 0, position)) for position in range(draws)],
        minlength=5,
    )
    rate = np.exp(row.astype(np.float64)) / np.exp(row.astype(np.float64)).sum()
    assert (np.abs(counts - draws * rate) <= 4 * np.sqrt(draws * rate * (1 - rate))).all()


def test_the_best_in_hand_are_enough_for_a_nucleus():
    """What the sampler relies on: the greatest logits and the whole mass give the same kept set."""
    for seed in range(30):
        row = logits(1, 4000, seed)[0].double().numpy()
        (summary,) = distribution.summarise(torch.from_numpy(row).float()[None], [0.8], best=32)
        for p in (0.0, 0.3, 0.6):
            whole = truncation.nucleus(row, p, 0.8).ids
            head = truncation.nucleus(row[summary.best], p, 0.8, mass=summary.mass).ids
            assert len(head) == min(len(whole), 32)
            if len(head) < 32:
                assert (summary.best[head] == whole).all()
