import os
from pathlib import Path

import pytest

from tests.models.tiny import write_gguf
from thermoscope.catalogue.config import ModelConfig
from thermoscope.errors import BadModelFile, ModelNotFound, UnsupportedModel
from thermoscope.models.checkpoint import (
    GGUF_LAYER,
    HF_LAYER,
    check_parts,
    identity,
    name_of,
    open_checkpoint,
    parts_of,
    reading,
    refuse_unknown,
    shape_of,
)

CONFIG = ModelConfig(
    family="qwen3",
    vocab=100,
    hidden=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=32,
    ffn=96,
    context=128,
    norm_eps=1e-6,
    rope_theta=1e4,
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    qk_norm=True,
)


def count(shape: tuple[int, ...]) -> int:
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


@pytest.mark.parametrize("tied", [False, True])
def test_the_parts_add_up_to_the_models_parameters(tied: bool) -> None:
    config = ModelConfig(**(vars(CONFIG) | {"tied": tied}))
    assert sum(count(shape_of(part, config)) for part in parts_of(config)) == config.parameters


def test_both_formats_name_the_same_parts() -> None:
    assert HF_LAYER.keys() == GGUF_LAYER.keys()
    assert len(set(HF_LAYER.values())) == len(HF_LAYER)
    assert len(set(GGUF_LAYER.values())) == len(GGUF_LAYER)


def test_refuses_a_missing_or_misshapen_part() -> None:
    shapes = {part: shape_of(part, CONFIG) for part in parts_of(CONFIG)}
    check_parts(shapes, CONFIG, "model")
    with pytest.raises(BadModelFile, match=r"layers\.1\.k_norm"):
        check_parts({part: shapes[part] for part in shapes if part != "layers.1.k_norm"}, CONFIG, "model")
    with pytest.raises(BadModelFile, match=r"got shape \[64, 128\], expected \[128, 64\]"):
        check_parts(shapes | {"layers.0.q": (64, 128)}, CONFIG, "model")
    with pytest.raises(BadModelFile, match=f"and {len(shapes) - 3} more"):
        check_parts({}, CONFIG, "model")


def test_refuses_a_tensor_without_a_place() -> None:
    refuse_unknown([], CONFIG, "model")
    with pytest.raises(UnsupportedModel, match="a, b, c and 1 more"):
        refuse_unknown(["d", "c", "b", "a"], CONFIG, "model")


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
