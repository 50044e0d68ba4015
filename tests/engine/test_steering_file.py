"""A steering vector through its files and back, and what it does to an answer."""

import numpy as np
import pytest
import torch
from gguf import GGUFReader

from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.replay import replay
from thermoscope.engine.steering import Steering, load
from thermoscope.errors import BadModelFile, InvalidRequest
from thermoscope.models.intervention import Add, Lean

RANDOM = torch.Generator().manual_seed(8)
ONE, TWO, TASK = (torch.randn(64, generator=RANDOM) for _ in range(3))
CONSTANT = Steering("tiny", "llama", 3, {2: ONE, 3: TWO})
CARD = Steering("tiny", "llama", 3, {1: ONE}, {1: TASK}, 4.5)


def same(one, other):
    assert (one.model, one.family, one.layers, one.gamma) == (
        other.model, other.family, other.layers, other.gamma,
    )  # fmt: skip
    for mine, its in ((one.vectors, other.vectors), (one.task or {}, other.task or {})):
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[layer], its[layer]) for layer in mine)


@pytest.mark.parametrize(
    ("steering", "suffix"), [(CONSTANT, "gguf"), (CONSTANT, "safetensors"), (CARD, "safetensors")]
)
def test_it_comes_back_from_its_file_as_it_was(steering, suffix, tmp_path):
    path = tmp_path / f"vector.{suffix}"
    steering.save(path)
    same(load(path), steering)


def test_the_gguf_file_is_what_llama_cpp_reads(tmp_path):
    """common/common.cpp takes F32 vectors named direction.N; N is the layer behind which they are added."""
    CONSTANT.save(tmp_path / "v.gguf")
    read = GGUFReader(tmp_path / "v.gguf")
    assert {tensor.name: tensor.tensor_type.name for tensor in read.tensors} == {
        "direction.1": "F32",
        "direction.2": "F32",
    }
    assert np.array_equal(read.tensors[0].data, ONE.numpy())
    assert read.fields["general.architecture"].contents() == "controlvector"
    assert read.fields["controlvector.model_hint"].contents() == "llama"
    assert read.fields["controlvector.layer_count"].contents() == 3


def test_what_llama_cpp_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match=r"v.gguf: got a vector in the card's mode, expected a constant"):
        CARD.save(tmp_path / "v.gguf")
    with pytest.raises(InvalidRequest, match=r"got a vector for layer 1, expected 2 to 3"):
        Steering("tiny", "llama", 3, {1: ONE}).save(tmp_path / "v.gguf")
    with pytest.raises(InvalidRequest, match=r"v.txt: expected a name that ends in .safetensors or .gguf"):
        CONSTANT.save(tmp_path / "v.txt")


def test_other_files_are_refused_in_one_line(tmp_path, smollm2):
    from safetensors.torch import save_file

    save_file({"a": ONE}, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"no tensors")
    (tmp_path / "c.gguf").write_bytes(b"GGUF")
    Steering("tiny", "llama", 3, {2: ONE * torch.inf}).save(tmp_path / "d.safetensors")
    for path in (*sorted(tmp_path.iterdir()), tmp_path / "none.gguf", smollm2):
        with pytest.raises(BadModelFile) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_the_card_s_mode_begins_at_the_prompt_s_last_token():
    (lean,) = CARD.interventions(7)
    assert isinstance(lean, Lean)
    assert (lean.layer, lean.gamma, lean.first) == (1, 4.5, 6)
    assert [(each.layer, each.positions) for each in CONSTANT.interventions(7)] == [(2, None), (3, None)]
    assert all(isinstance(each, Add) for each in CONSTANT.interventions(7))


@pytest.mark.parametrize("steering", [CONSTANT, CARD])
def test_a_steered_answer_is_what_a_replay_with_the_same_sees(model, steering):
    prompt = (10, 20, 30, 11)
    with LanguageModel(lambda: Engine(model, slots=2, context=64)) as lm:
        how = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}
        trace = lm.generate(prompt, steer=steering, **how).trace
        assert trace.tokens != lm.generate(prompt, **how).trace.tokens
        seen = replay(model, [*prompt, *trace.tokens], interventions=steering.interventions(len(prompt)))
        assert seen.logprob_residual(trace) <= 1e-4
