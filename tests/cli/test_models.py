import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.cli.conftest import Command
from thermoscope.cli import models, options
from thermoscope.engine.language_model import load


def test_the_default_is_the_one_that_python_loads() -> None:
    assert inspect.signature(load).parameters["name"].default == options.DEFAULT_MODEL


def test_list_tells_what_is_here_and_how_to_get_what_is_not(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("THERMOSCOPE_CACHE", str(tmp_path))
    for name, about in (("a", '{"name": "Mine", "precision": "bf16"}'), ("b", "{ broken"), ("c.part", "{}")):
        folder = tmp_path / "packed" / name
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(about)
        (folder / "weights.safetensors").write_bytes(b"\0" * 1000)
    models = {each["name"]: each for each in json.loads(command("models", "list", "--json").out)["models"]}
    default = models["SmolLM2-135M-Instruct"]
    assert (default["cached"], default["path"], default["bytes"]) == (False, None, 98_362_432)
    assert models["gemma-3-270m"]["bytes"] == 253_113_024  # in four pieces
    (copy,) = json.loads(command("models", "list", "--json").out)["packed"]
    assert copy == {
        **{"name": "Mine", "precision": "bf16"},
        **{
            "bytes": 1000 + len('{"name": "Mine", "precision": "bf16"}'),
            "path": str(tmp_path / "packed" / "a"),
        },
    }
    table = command("models", "list").out
    assert "93.8 MiB" in table
    assert "thermoscope models pull SmolLM2-135M-Instruct" in table
    assert "Mine, packed as bf16" in table


def test_pull_prints_where_it_is(command: Command, tmp_path: Path) -> None:
    assert command("models", "pull", str(tmp_path)).out == f"{tmp_path}\n"
    assert json.loads(command("models", "pull", str(tmp_path), "--json").out)["path"] == str(tmp_path)


def test_pull_of_no_such_model_is_one_line(command: Command) -> None:
    done = command("models", "pull", "smollm2-135m-instructor")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "did you mean 'SmolLM2-135M-Instruct'?" in done.err


def test_show_describes_the_default_model(command: Command) -> None:
    done = command("models", "show", "--json")
    assert done.code == 0, done.err
    plain = json.loads(done.out)
    assert plain["architecture"] == "llama"
    assert plain["parameters"] == 134_515_008
    assert plain["tensors"] == {"Q4_1": 210, "F32": 61, "Q8_0": 1}
    assert plain["file_bytes"] == 98_362_432
    assert plain["licence"] == "apache-2.0"
    assert plain["context"] == 8192
    assert plain["tokenizer"]["vocabulary"] == 49152
    assert plain["weight_bytes"]["fp32"] == 4 * 134_515_008
    assert plain["cache_bytes_per_token"] == 2 * 30 * 3 * 64 * 4
    table = command("models", "show").out
    for cell in ("134,515,008", "210 Q4_1", "93.8 MiB", "weights, int4", "<|im_end|>"):
        assert cell in table


def test_a_folders_tensors_and_licence(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float16)}, tmp_path / "1.safetensors")
    save_file({"c": np.zeros(2, np.float32)}, tmp_path / "2.safetensors")
    (tmp_path / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Card\n")
    kinds, licence = models._folder(tmp_path)
    assert (dict(kinds), licence) == ({"F32": 2, "F16": 1}, "mit")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all"])
def test_show_of_a_broken_file_is_one_line(command: Command, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    done = command("models", "show", str(path))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("thermoscope: ")
