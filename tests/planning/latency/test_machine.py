"""A profile is written and read back; a missing or broken one says what to do."""

import pytest

from tests.planning.latency.shapes import DEVICE
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency import machine


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.platformdirs, "user_config_dir", lambda _: str(tmp_path / "config"))
    return tmp_path


def test_a_profile_is_read_as_it_was_written(folder):
    profile = machine.Profile(DEVICE, {"overhead": 1e-6}, "yesterday, 2 threads")
    assert machine.save(profile) == machine.path()
    assert machine.load() == profile


def test_a_missing_one_says_what_to_do(folder):
    with pytest.raises(InvalidRequest, match="was not measured yet; run `thermoscope latency --calibrate`"):
        machine.load()


@pytest.mark.parametrize("text", ["{", "{}", '{"device": {"name": 1}, "factors": {}, "measured": ""}'])
def test_a_broken_one_says_what_to_do(folder, text):
    machine.path().parent.mkdir(parents=True)
    machine.path().write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"cannot be read .* to write it anew"):
        machine.load()


def test_its_programs_are_its_precisions():
    assert machine.framework("q4_1") == "thermoscope.int4"
    with pytest.raises(
        InvalidRequest, match="weights: got 'nf4', expected one that this machine was measured with"
    ):
        machine.framework("nf4")
