"""A profile is written and read back, and predicts; a missing or broken one says what to do."""

import dataclasses

import pytest

from tests.planning.latency.shapes import DEVICE, SMALL
from tests.planning.latency.test_costs import costs
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency import machine
from thermoscope.planning.latency.efficiency import Spread
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.prediction import Request, predict

SPREADS = {"bf16": {"decode": Spread(0.9, 1.2, 40), "prefill": Spread(0.8, 1.0, 12)}}
PROFILE = machine.Profile(DEVICE, {"bf16": costs()}, SPREADS, 8, "yesterday, 2 threads")


def request(**more):
    given = {"prompt": 20, "answer": 4, "format": FORMATS["bf16"], "framework": "thermoscope"} | more
    return Request(shape=SMALL, device=DEVICE, precision="bf16", cache="bf16", **given)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.platformdirs, "user_config_dir", lambda _: str(tmp_path / "config"))
    return tmp_path


def test_a_profile_is_read_as_it_was_written(folder):
    assert machine.save(PROFILE) == machine.path()
    read = machine.load()
    assert read.spreads == PROFILE.spreads
    assert predict(request(), read) == predict(request(), PROFILE)


def test_a_prompt_is_read_in_pieces_and_only_the_last_gets_logits():
    pieces = PROFILE.prompt(request(batch=3))
    assert [(count, run.batch, run.past, run.new, run.outputs) for count, run in pieces] == [
        (3, 1, 0, 8, 0), (3, 1, 8, 8, 0), (3, 1, 16, 4, 1),
    ]  # fmt: skip
    assert [run.new for _, run in PROFILE.prompt(request(prompt=16))] == [8, 8]


def test_a_prompt_takes_the_sum_of_its_pieces():
    one = request(batch=3)
    whole = predict(one, PROFILE).prefill
    alone = [PROFILE.step(one, run) for _, run in PROFILE.prompt(one)]
    assert whole.seconds == pytest.approx(3 * sum(each.seconds for each in alone))
    assert sum(part.work.name == "head" for part in whole.parts) == 1
    flops = sum(part.work.count * part.work.flops for each in alone for part in each.parts)
    assert sum(part.work.count * part.work.flops for part in whole.parts) == pytest.approx(3 * flops)


def test_the_precision_of_the_request_changes_nothing_between_products():
    other = dataclasses.replace(request(), precision="fp32")
    assert predict(other, PROFILE).total == predict(request(), PROFILE).total


def test_a_band_is_what_was_measured():
    band = PROFILE.band(request(), 2.0, "decode")
    assert (band.low, band.high) == (1.8, 2.4)
    assert "40 steps" in band.reason


def test_another_precision_or_several_machines_are_refused():
    with pytest.raises(InvalidRequest, match=r"not measured with fp32; run .* again"):
        predict(request(format=FORMATS["fp32"]), PROFILE)
    with pytest.raises(InvalidRequest, match="tensor: got 2 devices, expected 1"):
        predict(request(tensor=2), PROFILE)


def test_a_missing_one_says_what_to_do(folder):
    with pytest.raises(InvalidRequest, match="was not measured yet; run `thermoscope latency --calibrate`"):
        machine.load()


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[]", '{"device": {"name": 1}, "costs": {}, "spreads": {}, "piece": 1, "measured": ""}'],
)
def test_a_broken_one_says_what_to_do(folder, text):
    machine.path().parent.mkdir(parents=True)
    machine.path().write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest, match=r"cannot be read .* to write it anew"):
        machine.load()


def test_its_programs_are_its_precisions():
    assert machine.framework("q4_1", "thermoscope") == machine.framework("bf16")
    with pytest.raises(
        InvalidRequest, match="weights: got 'nf4', expected one that this machine was measured with"
    ):
        machine.framework("nf4")
    with pytest.raises(InvalidRequest, match="framework: got 'serving', expected thermoscope"):
        machine.framework("q4_1", "serving")
