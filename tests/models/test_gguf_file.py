from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType as Kind
from gguf.quants import dequantize

from tests.models.tiny import HEADS, HIDDEN, TOKENS, weights, write_gguf
from thermoscope.errors import BadModelFile, ThermoscopeError, UnsupportedModel
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.gguf_file import DENSE, QUANTISED, GGUFCheckpoint
from thermoscope.models.parts import parts_of


def reference(path: Path, name: str) -> torch.Tensor:
    """The tensor as the `gguf` package reads it."""
    tensor = next(each for each in GGUFReader(path).tensors if each.name == name)
    values = dequantize(np.array(tensor.data), tensor.tensor_type)
    return torch.from_numpy(values.reshape(tensor.shape.tolist()[::-1]))


@pytest.mark.parametrize("kind", [*DENSE, *QUANTISED], ids=lambda kind: kind.name)
def test_reads_every_type_as_the_gguf_package_does(tmp_path: Path, kind: Kind) -> None:
    path = write_gguf(tmp_path / "model.gguf", kinds={"blk.1.ffn_gate.weight": kind})
    found = GGUFCheckpoint(path).read("layers.1.gate")
    assert found.dtype == DENSE.get(kind, torch.float32)
    assert torch.equal(found.float(), reference(path, "blk.1.ffn_gate.weight"))


@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_undoes_the_permutation_of_llama_alone(tmp_path: Path, arch: str) -> None:
    tensors = weights()
    original = tensors["blk.0.attn_q.weight"]
    if arch == "llama":  # as llama.cpp's converter does it
        halves = original.reshape(HEADS, 2, HIDDEN // HEADS // 2, HIDDEN)
        tensors["blk.0.attn_q.weight"] = halves.swapaxes(1, 2).reshape(HIDDEN, HIDDEN)
    else:
        sizes = {"q": HIDDEN, "k": HIDDEN // 2, "v": HIDDEN // 2}
        tensors |= {
            f"blk.{i}.attn_{x}.bias": np.ones(size, np.float32) for i in range(2) for x, size in sizes.items()
        }
    path = write_gguf(tmp_path / "model.gguf", arch=arch, tensors=tensors)
    assert np.array_equal(GGUFCheckpoint(path).read("layers.0.q").numpy(), original)


def test_permutes_biases_as_it_does_rows(tmp_path: Path) -> None:
    bias = np.arange(HIDDEN, dtype=np.float32)
    tensors = weights()
    for i in range(2):
        tensors[f"blk.{i}.attn_q.bias"] = bias.reshape(HEADS, 2, -1).swapaxes(1, 2).reshape(-1)
        tensors[f"blk.{i}.attn_k.bias"] = tensors[f"blk.{i}.attn_v.bias"] = bias[: HIDDEN // 2]
    checkpoint = GGUFCheckpoint(write_gguf(tmp_path / "model.gguf", tensors=tensors))
    assert np.array_equal(checkpoint.read("layers.1.q_bias").numpy(), bias)
    assert np.array_equal(checkpoint.read("layers.1.v_bias").numpy(), bias[: HIDDEN // 2])


def test_the_default_model(smollm2: Path) -> None:
    checkpoint = open_checkpoint(smollm2)
    assert checkpoint.name == "SmolLM2-135M-Instruct"
    assert (checkpoint.config.layers, checkpoint.config.hidden, checkpoint.config.vocab) == (30, 576, 49152)
    assert checkpoint.config.tied
    assert not checkpoint.has("head")
    assert all(checkpoint.has(part) for part in parts_of(checkpoint.config))
    assert torch.equal(checkpoint.read("layers.7.v"), reference(smollm2, "blk.7.attn_v.weight"))


def change(name: str, shape: tuple[int, ...] | None) -> dict[str, np.ndarray]:
    tensors = weights()
    tensors.pop(name, None)
    if shape:
        tensors[name] = np.zeros(shape, np.float32)
    return tensors


def experts() -> dict[str, np.ndarray]:
    """A mixture of experts: it lacks parts, but what matters is that it has others."""
    tensors = change("blk.0.ffn_gate.weight", None)
    return tensors | {"blk.0.ffn_gate_exps.weight": np.zeros((8, 512, HIDDEN), np.float32)}


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"tensors": change("blk.1.ffn_up.weight", None)}, BadModelFile, "layers.1.up"),
        ({"tensors": change("blk.1.ffn_up.weight", (64, HIDDEN))}, BadModelFile, r"got shape \[64, 256\]"),
        ({"tensors": change("token_embd.weight", None)}, BadModelFile, "token_embd"),
        ({"tensors": change("blk.0.ffn_gate_inp.weight", (8, HIDDEN))}, UnsupportedModel, "ffn_gate_inp"),
        ({"tensors": experts()}, UnsupportedModel, "ffn_gate_exps"),
        ({"arch": "mamba"}, UnsupportedModel, "mamba"),
        ({"kinds": {"blk.0.ffn_up.weight": Kind.TQ2_0}}, UnsupportedModel, "TQ2_0"),
        ({"llama.block_count": None}, BadModelFile, "block_count"),
        ({"llama.block_count": "two"}, BadModelFile, "block_count|layers|parse"),
        ({"llama.attention.head_count": 0}, BadModelFile, "model.gguf|heads"),
        ({"tokenizer.ggml.pre": "klingon"}, UnsupportedModel, "klingon"),
        ({"tokenizer.ggml.model": "bert"}, UnsupportedModel, "bert"),
        ({"tokenizer.ggml.tokens": TOKENS[:-1]}, BadModelFile, f"expected {len(TOKENS)}"),
        ({"tokenizer.ggml.tokens": [*TOKENS[:-1], "h"]}, BadModelFile, "'h' twice"),
        ({"tokenizer.ggml.merges": ["zz y"]}, BadModelFile, "tokenizer"),
        ({"tokenizer.ggml.merges": ["onlyone"]}, BadModelFile, "tokenizer"),
        ({"tokenizer.ggml.eos_token_id": len(TOKENS)}, BadModelFile, "eos"),
        ({"tokenizer.ggml.tokens": None}, BadModelFile, "tokens"),
    ],
)
def test_refuses(tmp_path: Path, changed: dict[str, Any], error: type[ThermoscopeError], says: str) -> None:
    path = write_gguf(tmp_path / "model.gguf", **changed)
    with pytest.raises(error, match=says) as caught:
        GGUFCheckpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [Kind.Q4_1, Kind.F16], ids=lambda kind: kind.name)
def test_weights_that_are_not_finite(tmp_path: Path, kind: Kind) -> None:
    path = write_gguf(tmp_path / "model.gguf", kinds={"blk.0.ffn_up.weight": kind})
    checkpoint = GGUFCheckpoint(path)
    data = bytearray(path.read_bytes())
    start = checkpoint._tensors["blk.0.ffn_up.weight"].start
    data[start : start + 2] = b"\0\x7c"  # infinity in half precision
    path.write_bytes(data)
    with pytest.raises(BadModelFile, match="NaN or infinite"):
        GGUFCheckpoint(path).read("layers.0.up")
    if kind is Kind.Q4_1:
        with pytest.raises(BadModelFile, match="NaN or infinite"):
            GGUFCheckpoint(path).blocks("layers.0.up")


def test_a_file_that_shrinks_while_in_use(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    checkpoint = GGUFCheckpoint(path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BadModelFile, match="shrank"):
        [checkpoint.read(part) for part in parts_of(checkpoint.config)]


def test_a_flipped_byte_in_the_header_never_raises_anything_else(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "model.gguf")
    whole = path.read_bytes()
    random = np.random.default_rng(2)
    outcomes = set()
    for at in random.integers(24, 10_000, 200):
        data = bytearray(whole)
        data[at] ^= int(random.integers(1, 256))
        path.write_bytes(data)
        try:
            GGUFCheckpoint(path)
            outcomes.add("opened")
        except (BadModelFile, UnsupportedModel) as error:
            outcomes.add(type(error).__name__)
    assert {"opened", "BadModelFile"} <= outcomes
