import os
from pathlib import Path

import pytest

from tests.models.tiny import write_gguf
from thermoscope.errors import BadModelFile, ModelNotFound, UnsupportedModel
from thermoscope.models.checkpoint import identity, name_of, open_checkpoint, reading


def test_opens_a_gguf_file_whatever_it_is_called(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf").rename(tmp_path / "blob")
    assert open_checkpoint(path).config.layers == 2


def test_refuses_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such file"):
        open_checkpoint(tmp_path / "none.gguf")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UnsupportedModel, match="pickle"):
        open_checkpoint(tmp_path / "pytorch_model.bin")
    (tmp_path / "text.gguf").write_text("hello world")
    with pytest.raises(BadModelFile, match="no GGUF file"):
        open_checkpoint(tmp_path / "text.gguf")


def test_identity_changes_with_the_files(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    before = identity(tmp_path), identity(file)
    assert before == (identity(tmp_path), identity(file))
    os.utime(file, ns=(0, 1))
    after = identity(tmp_path), identity(file)
    assert after[0] != before[0]
    assert after[1] != before[1]
    (tmp_path / "more").touch()
    assert identity(tmp_path) != after[0]
    assert identity(file) == after[1]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5-0.5b-instruct"),
        ("Llama-3.2-1B-BF16.gguf", "Llama-3.2-1B"),
        ("model.f16.gguf", "model"),
        ("Qwen3-0.6B.gguf", "Qwen3-0.6B"),
        ("models--Qwen--Qwen3-0.6B/snapshots/0123abc/", "Qwen3-0.6B"),
        ("my.model/", "my.model"),
    ],
)
def test_a_models_name_is_for_people(tmp_path: Path, path: str, name: str) -> None:
    if path.endswith("/"):
        (tmp_path / path).mkdir(parents=True)
    assert name_of(tmp_path / path) == name


def test_whatever_a_parser_raises_becomes_one_line() -> None:
    with pytest.raises(BadModelFile, match=r"here: .*RuntimeError: two lines") as caught, reading("here"):
        raise RuntimeError("two\nlines")
    assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedModel, match="as it is"), reading("here"):
        raise UnsupportedModel("as it is")
