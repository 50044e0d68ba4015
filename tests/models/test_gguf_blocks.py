from pathlib import Path

import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind

from tests.models.tiny import FFN, HIDDEN, write_gguf
from thermoscope.models.gguf_file import QUANTISED, GGUFCheckpoint

IN_BLOCKS = [kind for kind in QUANTISED if kind is not Kind.Q6_K]
CODES = {Kind.Q8_0: 256, Kind.Q5_0: 32, Kind.Q5_1: 32, Kind.Q5_K: 32}


@pytest.mark.parametrize("kind", IN_BLOCKS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("part", ["gate", "q"])
def test_blocks_are_the_same_weights(tmp_path: Path, kind: Kind, part: str) -> None:
    name = {"gate": "blk.0.ffn_gate.weight", "q": "blk.0.attn_q.weight"}[part]
    checkpoint = GGUFCheckpoint(write_gguf(tmp_path / "model.gguf", kinds={name: kind}))
    blocks = checkpoint.blocks(f"layers.0.{part}")
    assert blocks is not None
    rows = FFN if part == "gate" else HIDDEN
    assert blocks.codes.dtype == torch.uint8
    assert blocks.codes.shape == (rows, HIDDEN)
    assert blocks.scale.shape == blocks.minimum.shape == (rows, HIDDEN // 32)
    assert int(blocks.codes.max()) < CODES.get(kind, 16)
    spread = blocks.scale.repeat_interleave(32, 1), blocks.minimum.repeat_interleave(32, 1)
    assert torch.equal(spread[0] * blocks.codes + spread[1], checkpoint.read(f"layers.0.{part}"))


@pytest.mark.parametrize("kind", [Kind.F32, Kind.F16, Kind.Q6_K], ids=lambda kind: kind.name)
def test_types_of_another_form_have_no_blocks(tmp_path: Path, kind: Kind) -> None:
    path = write_gguf(tmp_path / "model.gguf", kinds={"blk.0.ffn_up.weight": kind})
    assert GGUFCheckpoint(path).blocks("layers.0.up") is None
