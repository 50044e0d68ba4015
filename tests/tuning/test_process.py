import time
from importlib import util

import pytest

from tests.planning.memory.shapes import SMALL
from thermoscope.errors import InvalidRequest, ReadingCancelled, UnsupportedModel
from thermoscope.planning.memory.training import Training
from thermoscope.tuning import process
from thermoscope.tuning.process import traced

FULL = Training(shape=SMALL, method="full", sequence=64)


def test_the_phases_of_a_step_come_back():
    calls = []
    found = traced(FULL, lambda: calls.append(1))
    assert list(found) == ["forward", "loss", "backward", "step"]
    assert found["step"] == pytest.approx(10 * SMALL.parameters, rel=1e-3)
    assert calls


def test_whoever_watches_can_stop_it():
    since = time.monotonic()

    def watch():
        if time.monotonic() - since > 0.3:
            raise ReadingCancelled("reading: it was cancelled.")

    with pytest.raises(ReadingCancelled):
        traced(FULL, watch)
    assert time.monotonic() - since < 2


def test_an_error_in_there_is_one_here(monkeypatch):
    monkeypatch.setattr(process, "PROGRAM", """print('{"error": "trace: got this."}')""")
    with pytest.raises(UnsupportedModel, match=r"^trace: got this\.$"):
        traced(FULL, lambda: None)


def test_a_crash_in_there_is_one_line_here(monkeypatch):
    monkeypatch.setattr(process, "PROGRAM", "raise SystemError('broken')")
    with pytest.raises(UnsupportedModel, match=r"^trace: got 'SystemError: broken' from PyTorch, [^\n]*$"):
        traced(FULL, lambda: None)


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(process, "find_spec", lambda name: None if name == "peft" else util.find_spec(name))
    with pytest.raises(InvalidRequest, match=r"got no package peft, .* `pip install 'thermoscope\[tune\]'`"):
        traced(FULL, lambda: None)
