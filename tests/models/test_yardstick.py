"""What rounding costs is measured, told, and kept."""

import math
from pathlib import Path

import pytest
import torch

from tests import tiny
from thermoscope.models import model as module
from thermoscope.models import packed, yardstick
from thermoscope.models.cache import Span
from thermoscope.models.model import Model
from thermoscope.planning import serving


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOSCOPE_CACHE", str(tmp_path / "cache"))
    return tiny.save(tiny.reference("llama"), tmp_path / "model")


def test_a_model_is_at_no_distance_from_itself(folder):
    model = Model.load(str(folder), precision="fp32")
    assert yardstick.divergence(model.decoder, model.decoder, model.tokenizer) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("precision", "least", "most"), [("int8", 1e-6, 0.01), ("int4", 1e-3, 1.0)])
def test_rounding_is_measured_told_and_kept(folder, precision, least, most, caplog):
    model = Model.load(str(folder), precision=precision)
    assert least < model.rounding < most
    assert f"{model.rounding:.2g} nats a token" in caplog.text
    exact = Model.load(str(folder), precision="fp32")
    text = Path(yardstick.__file__).with_suffix(".txt").read_text(encoding="utf-8")
    tokens = torch.tensor(list(model.tokenizer.prompt(text))[: yardstick.TOKENS])
    laws = []
    for each in (exact, model):
        cache = each.cache(slots=2, context=300)  # another slot, another context, in pieces: the same numbers
        with torch.inference_mode():
            hidden = [
                each.decoder.forward(part.tolist(), [Span(1, 100 * index, len(part))], cache)
                for index, part in enumerate(tokens.split(100))
            ]
            laws.append(torch.softmax(each.decoder.logits(torch.cat(hidden)).double(), dim=-1))
    p, q = laws
    total = math.fsum((p * (p / q).log()).sum(dim=1).tolist())
    assert model.rounding == pytest.approx(total / len(tokens), rel=1e-3)
    assert Model.load(str(folder), precision=precision).rounding == model.rounding


def test_weights_that_stay_as_they_are_have_no_distance(folder):
    assert Model.load(str(folder), precision="fp16").rounding is None


def test_without_room_for_both_forms_it_is_not_measured(folder, monkeypatch, caplog):
    calls = []

    def check(needed, free):
        calls.append(needed)
        if len(calls) == 2:  # the first is of the model itself, the second of its exact form beside it
            raise module.OutOfMemory("memory: full")

    monkeypatch.setattr(serving, "check_fits", check)
    assert Model.load(str(folder), precision="int4").rounding is None
    assert "not measured: memory: full" in caplog.text
    (kept,) = (module.store.cache_dir() / "packed").glob("*/model.json")
    assert packed.load(kept.parent).rounding is None
