import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind

from tests import tiny as random_models
from tests.models import tiny
from thermoscope.errors import BadModelFile
from thermoscope.models import pack, packed
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.checkpoint import open_checkpoint

TOKENS = torch.arange(2, 34)


def made(path, precision="fp32"):
    checkpoint = open_checkpoint(path)
    tensors = dict(pack.pack(checkpoint, precision))
    return packed.Packed(checkpoint.name, precision, checkpoint.config, checkpoint.tokenizer, tensors)


@pytest.fixture(params=["llama", "llama3", "mistral", "qwen2", "mixtral", "gemma3", "gpt2", "phi3-longrope"])
def source(request, tmp_path):
    return random_models.save(random_models.reference(request.param), tmp_path / request.param)


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "cache" / "packed" / "0123"
    packed.save(folder, made(tiny.write_gguf(tmp_path / "m.gguf")))
    return folder


def logits(ready):
    decoder = pack.build(ready.config, ready.tensors)
    with torch.inference_mode():
        cache = KVCache(ready.config, slots=1, context=32)
        return decoder.logits(decoder.forward(TOKENS.tolist(), [Span(0, 0, 32)], cache))


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_what_was_saved_loads_equal_and_computes_equal(source, tmp_path, precision):
    before = made(source, precision)
    packed.save(tmp_path / "cache" / "a", before)
    after = packed.load(tmp_path / "cache" / "a")
    assert (after.name, after.precision, after.config) == (before.name, before.precision, before.config)
    assert same(after.tensors, before.tensors)
    assert after.tokenizer.encode("Hi </s>", special=True) == before.tokenizer.encode("Hi </s>", special=True)
    assert after.tokenizer.end_ids == before.tokenizer.end_ids
    assert torch.equal(logits(after), logits(before))


def test_4_bit_weights_keep_the_kernels_own_layout(tmp_path):
    kinds = {name: Kind.Q4_1 for name, values in tiny.weights().items() if values.ndim == 2}
    before = made(tiny.write_gguf(tmp_path / "m.gguf", kinds=kinds), "int4")
    packed.save(tmp_path / "a", before)
    assert any(":Int4.packed" in name for name in before.tensors)
    assert same(packed.load(tmp_path / "a").tensors, before.tensors)


@pytest.mark.parametrize("name", ["a", "ab", "a" * 20, "a" * 63])
def test_weights_begin_at_a_cache_line(tmp_path, name):
    ready = made(tiny.write_gguf(tmp_path / "m.gguf"))
    packed.save(tmp_path / "a", ready._replace(tensors={name: torch.arange(5)}))
    header = (tmp_path / "a" / "weights.safetensors").read_bytes()
    assert (8 + int.from_bytes(header[:8], "little")) % 64 == 0
    assert torch.equal(packed.load(tmp_path / "a").tensors[name], torch.arange(5))


@pytest.mark.parametrize("shift", [0, 8, 16, 24, 40, 56])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "int4"])
def test_tensors_may_stand_anywhere_in_the_mapped_file(tmp_path, precision, shift):
    """safetensors aligns to 8 bytes, wherever the header's length happens to put them."""
    kinds = {name: Kind.Q4_1 for name, values in tiny.weights().items() if values.ndim == 2}
    ready = made(tiny.write_gguf(tmp_path / "m.gguf", kinds=kinds), precision)
    moved = {name: elsewhere(tensor, shift) for name, tensor in ready.tensors.items()}
    assert same(moved, ready.tensors)
    assert torch.equal(logits(ready._replace(tensors=moved)), logits(ready))


def elsewhere(tensor, shift):
    room = torch.empty(tensor.nbytes + 128, dtype=torch.uint8)
    start = -room.data_ptr() % 64 + shift
    return room[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape).copy_(tensor)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: shutil.rmtree(folder),
        lambda folder: (folder / "model.json").unlink(),
        lambda folder: (folder / "model.json").write_text('{"name": "m"'),
        lambda folder: (folder / "model.json").write_text("[]"),
        lambda folder: (folder / "model.json").write_text('{"name": "m", "precision": "fp32"}'),
        lambda folder: (folder / "weights.safetensors").unlink(),
        lambda folder: os.truncate(folder / "weights.safetensors", 1000),
        lambda folder: (folder / "weights.safetensors").write_bytes(b""),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: (folder / "thermoscope-tokenizer.json").unlink(),
    ],
)
def test_a_damaged_folder_is_told_as_such(saved, damage):
    damage(saved)
    with pytest.raises(BadModelFile):
        packed.load(saved)


def test_a_folder_is_named_for_everything_that_it_was_made_from(tmp_path, monkeypatch):
    source = tiny.write_gguf(tmp_path / "m.gguf")

    def name(precision="fp32", *, native=False):
        return packed.folder_for(tmp_path, source, precision, native=native)

    names = [name(None), name(), name("int8"), name("int8", native=True), name(None, native=True)]
    assert names[:3] == [name(None), name(), name("int8")]
    assert name(native=True) == name()  # the own kernel has no fp32
    os.utime(source, ns=(1, 1))
    names.append(name())
    with source.open("ab") as file:
        file.write(b"\0")
    os.utime(source, ns=(1, 1))
    names.append(name())
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    names.append(name())
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ABACUS")
    names.append(name())
    monkeypatch.setattr(packed, "FORMAT", packed.FORMAT + 1)
    names.append(name())
    assert len(set(names)) == len(names) == 10
    assert {name.parent for name in names} == {tmp_path / "packed"}


def test_saving_again_replaces_the_folder(saved, tmp_path):
    other = replace_name(packed.load(saved), "other")
    packed.save(saved, other)
    assert packed.load(saved).name == "other"


def test_a_save_that_fails_leaves_the_old_folder_and_nothing_else(saved, monkeypatch):
    def full(tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    ready = packed.load(saved)
    monkeypatch.setattr(packed, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        packed.save(saved, replace_name(ready, "other"))
    assert packed.load(saved).name == ready.name
    assert {path.name for path in saved.parent.iterdir()} <= {saved.name, saved.name + ".lock"}


def replace_name(ready, name):
    return ready._replace(name=name, config=replace(ready.config))


def test_two_processes_at_once_both_run_and_leave_one_sound_folder(tmp_path):
    source = tiny.write_gguf(tmp_path / "m.gguf")
    program = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from thermoscope.models.model import Model\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"print(Model.load({str(source)!r}, precision='fp32').name)"
    )
    environment = os.environ | {"THERMOSCOPE_CACHE": str(tmp_path / "cache")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", program], env=environment, **pipes)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # both stand at the start: now
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out.strip(), err) == (0, "m", "")
    folder = packed.folder_for(tmp_path / "cache", source, "fp32", native=False)
    assert same(packed.load(folder).tensors, made(source).tensors)
    assert not folder.with_name(folder.name + ".part").exists()
