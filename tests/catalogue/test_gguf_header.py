from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from tests.models.tiny import write_gguf
from thermoscope.catalogue.gguf_header import read_header
from thermoscope.errors import BadModelFile, ThermoscopeError, UnsupportedModel


def same_as_the_packages_reader(path: Path) -> None:
    header, reader = read_header(path), GGUFReader(path)
    expected = {
        name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")
    }
    assert header.metadata == expected
    assert list(header.tensors) == [tensor.name for tensor in reader.tensors]
    for tensor in reader.tensors:
        info = header.tensors[tensor.name]
        assert info.shape == tuple(tensor.shape.tolist()[::-1])
        assert (info.kind, info.start, info.size) == (tensor.tensor_type, tensor.data_offset, tensor.n_bytes)


def test_agrees_with_the_gguf_package_on_the_default_model(smollm2: Path) -> None:
    same_as_the_packages_reader(smollm2)


def test_agrees_with_the_gguf_package_on_every_type_of_value(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "all.gguf", "llama")
    writer.add_custom_alignment(64)
    for name, value in {
        "uint8": 200,
        "int8": -3,
        "uint16": 60000,
        "int16": -300,
        "uint32": 2**31,
        "int32": -7,
        "uint64": 2**63,
        "int64": -(2**40),
        "float32": 0.1,
        "float64": 0.1,
        "bool": True,
    }.items():
        getattr(writer, f"add_{name}")(f"x.{name}", value)
    writer.add_string("x.text", "naïve 🤗")
    writer.add_array("x.numbers", [1, -2, 3])
    writer.add_array("x.words", ["a", "", "ü"])
    writer.add_tensor("one", np.ones((3, 5), np.float32))
    writer.add_tensor("two", np.ones((7,), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    same_as_the_packages_reader(tmp_path / "all.gguf")


def spoiled(path: Path, at: int, new: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    target = path.with_name("spoiled.gguf")
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("at", "new", "error", "says"),
    [
        (0, b"GGML", BadModelFile, "expected b'GGUF'"),
        (4, b"\x01\0\0\0", UnsupportedModel, "version 1"),
        (4, b"\0\0\0\x03", UnsupportedModel, "little-endian"),
        (8, b"\xff" * 8, BadModelFile, "fetch it again"),  # 2⁶⁴ tensors
        (16, b"\xff" * 8, BadModelFile, "fetch it again"),  # 2⁶⁴ keys
        (24, b"\xff" * 8, BadModelFile, "expected at least"),  # a key of 2⁶⁴ bytes
    ],
)
def test_says_what_is_wrong(
    tmp_path: Path, at: int, new: bytes, error: type[ThermoscopeError], says: str
) -> None:
    path = spoiled(write_gguf(tmp_path / "model.gguf"), at, new)
    with pytest.raises(error, match=says):
        read_header(path)


def test_refuses_an_endless_array_at_once(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    at = path.read_bytes().index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type") + 8
    with pytest.raises(BadModelFile, match="expected at least"):
        read_header(spoiled(path, at, (2**60).to_bytes(8, "little")))


@pytest.mark.parametrize("value", [0, 3, 48])
def test_refuses_an_alignment_that_is_no_power_of_two(tmp_path: Path, value: int) -> None:
    path = write_gguf(tmp_path / "model.gguf", **{"general.alignment": 32})
    at = path.read_bytes().index(b"general.alignment") + len("general.alignment") + 4
    with pytest.raises(BadModelFile, match="power of two"):
        read_header(spoiled(path, at, value.to_bytes(4, "little")))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty.gguf").touch()
    for path in (tmp_path / "empty.gguf", tmp_path / "none.gguf"):
        with pytest.raises(BadModelFile):
            read_header(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("whole") / "model.gguf").read_bytes()


def test_every_truncation_is_a_bad_model_file(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "cut.gguf"
    for length in [*range(0, 6000, 97), *range(6000, len(whole), len(whole) // 60), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(BadModelFile):
            read_header(path)


def test_a_flipped_byte_never_raises_anything_else(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "flipped.gguf"
    random: Any = np.random.default_rng(1)
    refused = []
    for at in random.integers(0, 12_000, 400):
        data = bytearray(whole[:])
        data[at] ^= int(random.integers(1, 256))
        path.write_bytes(data)
        try:
            read_header(path)
        except (BadModelFile, UnsupportedModel) as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)
