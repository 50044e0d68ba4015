"""`thermoscope prompting --save`: refused before anything is measured, and else a file."""

import json
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Command
from tests.cli.fakes import FakeModel
from thermoscope.cli import card
from thermoscope.engine.steering import Steering, load
from thermoscope.instruments.shape.reading import Check, Reading


@pytest.fixture
def task(tmp_path: Path) -> str:
    path = tmp_path / "task.json"
    path.write_text(json.dumps([{"input": "a", "output": "b"}]))
    return str(path)


@pytest.mark.parametrize(
    ("name", "mode", "message"),
    [
        ("v.gguf", "card", "v.gguf: got a vector in the card's mode, expected a constant one"),
        ("v.txt", "card", "v.txt: expected a name that ends in .safetensors or .gguf"),
        ("no/v.gguf", "constant", "does not exist; create it first"),
    ],
)
def test_a_file_that_cannot_be_is_refused_first(
    model: FakeModel, command: Command, task: str, tmp_path: Path, name: str, mode: str, message: str
) -> None:
    done = command("prompting", "--task", task, "--mode", mode, "--save", str(tmp_path / name))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert message in done.err
    assert model.loaded == {}


def test_a_case_has_no_vector_to_save(model: FakeModel, command: Command, tmp_path: Path) -> None:
    done = command("prompting", "--prompt", "a", "--input", "b", "--save", str(tmp_path / "v.gguf"))
    assert done.code == 2
    assert "--save: got no task, expected one" in done.err


def test_the_vector_of_the_reading_is_saved(
    model: FakeModel, command: Command, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = Steering("tiny", "llama", 3, {2: torch.ones(4)})
    reading = Reading(findings=["f"], checks=[Check("c", "h", 0, 0)], steering=vector, question="q?", law="l")
    monkeypatch.setattr(card, "take", lambda *_, **__: reading)
    path = tmp_path / "v.gguf"
    done = command("prompting", "--task", task, "--mode", "constant", "--save", str(path))
    assert done.code == 0, done.err
    assert f"steering vector: {path}" in done.err.replace("\n", "")
    assert load(path).vectors[2].tolist() == [1, 1, 1, 1]
