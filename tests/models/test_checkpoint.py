import os
from pathlib import Path

import pytest

from tests.models.tiny import write_gguf
from thermoscope.errors import BadModelFile, ModelNotFound, UnsupportedModel
from thermoscope.models.checkpoint import identity, open_checkpoint


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
