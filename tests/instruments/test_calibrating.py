"""Temperature scaling along a file, with a model that is a table of random logits."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from thermoscope.errors import ReadingCancelled
from thermoscope.instruments._calibrating import calibrate
from thermoscope.instruments.shape.lab import Lab
from thermoscope.instruments.shape.source import File
from thermoscope.laws import calibration

FILE = File(name="texts", data="\n\n".join(f"document {number} of a few" for number in range(12)).encode())


class Table(Lab):
    """Its tokens are characters; each token's logits are random, and the same every time."""

    def __init__(self, vocab, context=512, watch=None):
        tokenizer = SimpleNamespace(prompt=lambda text: [ord(char) for char in text])
        config = SimpleNamespace(vocab=vocab)
        model = SimpleNamespace(tokenizer=tokenizer, config=config, context=context, model=None)
        super().__init__(lambda: model, watch=watch)

    def logits(self, tokens, *, first=0, **_):
        for token in tokens[first:]:
            yield np.random.default_rng(token).normal(size=self.model.config.vocab).astype(np.float32)


def test_the_logits_are_in_memory_once():
    vocab, most = 40_000, 200
    tracemalloc.start()
    calibrate(Table(vocab), FILE, most)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.3 * most * vocab * 4


def test_the_halves_are_the_documents_in_turn():
    halves = [[], []]
    lab = Table(200)
    for number, text in enumerate(FILE.text.split("\n\n")):
        tokens = [ord(char) for char in text]
        halves[number % 2] += zip(lab.logits(tokens[:-1]), tokens[1:], strict=True)
    reading = calibrate(Table(200), FILE, 10_000)
    rows = reading.table("calibration").rows
    for half, row in zip(halves, (rows[0], rows[2]), strict=True):
        z = np.array([each for each, _ in half], dtype=np.float64)
        log_z = np.log(np.exp(z).sum(axis=1))
        assert row[1] == len(half)
        assert row[3] == pytest.approx(np.mean(log_z - z[range(len(half)), [token for _, token in half]]))
    assert reading.passed


def test_it_can_be_called_off_between_two_passes():
    lab = Table(
        200, watch=lambda progress: progress.what == "judging" and progress.done == 2 and lab.cancel()
    )
    with pytest.raises(ReadingCancelled):
        calibrate(lab, FILE, 100)


@pytest.mark.parametrize("what", ["fitting", "resampling"])
def test_it_can_be_called_off_within_one_fit_and_while_resampling(what):
    seen = []

    def watch(progress):
        seen.append(progress.what)
        if seen.count(what) == 3:
            lab.cancel()

    lab = Table(200, watch=watch)
    with pytest.raises(ReadingCancelled):
        calibrate(lab, FILE, 1000)
    assert seen.count(what) == 3
    assert seen[-1] == what


def test_each_pass_is_made_once_and_told(monkeypatch):
    passes, seen = [], []
    answers = calibration.answers
    monkeypatch.setattr(calibration, "answers", lambda *given: passes.append(given[2]) or answers(*given))
    calibrate(Table(200, watch=seen.append), FILE, 100)
    assert len(passes) == 4
    assert {each.what for each in seen} == {"fitting", "judging", "resampling", "checking"}


def test_what_the_context_cuts_off_is_said():
    assert not any("cut off" in note for note in calibrate(Table(200), FILE, 100).notes)
    notes = calibrate(Table(200, context=12), FILE, 1000).notes
    assert "Documents cut off at the end of the context, 12 tokens: 12." in notes


def test_a_t_star_that_is_not_level_is_found(monkeypatch):
    best = calibration.fit
    monkeypatch.setattr(calibration, "fit", lambda *given, **watch: best(*given, **watch) * 1.1)
    lab = Table(200)
    checks = calibrate(lab, FILE, 1000).checks
    assert not next(check for check in checks if check.name.startswith("the loss is level")).passed
