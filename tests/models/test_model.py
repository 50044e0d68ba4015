import os
import re
from types import SimpleNamespace

import pytest
import torch
from gguf.constants import GGMLQuantizationType as Kind

from tests.models import tiny
from thermoscope.catalogue.precision import PRECISIONS
from thermoscope.errors import InvalidRequest, ModelNotFound, OutOfMemory
from thermoscope.models import model as module
from thermoscope.models import packed
from thermoscope.models.model import Model
from thermoscope.planning import serving

GIB = 2**30
Q4 = {name: Kind.Q4_0 for name, values in tiny.weights().items() if values.ndim == 2}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("THERMOSCOPE_CACHE", str(folder))
    return folder


@pytest.fixture
def source(tmp_path):
    return tiny.write_gguf(tmp_path / "tiny.gguf", kinds=Q4)


def folders(cache):
    return sorted(path for path in (cache / "packed").glob("*") if path.is_dir())


def embedding(model):
    return model.decoder.embedding.float()


def refuse(*args, **kwargs):
    pytest.fail("this was not to be called")


@pytest.mark.parametrize("precision", [None, *PRECISIONS])
def test_a_second_start_reads_what_the_first_packed_and_is_the_same(source, cache, monkeypatch, precision):
    first = Model.load(str(source), precision=precision)
    monkeypatch.setattr(module, "open_checkpoint", refuse)
    second = Model.load(str(source), precision=precision)
    assert (second.name, second.precision) == (first.name, first.precision) == ("tiny", precision or "int4")
    assert second.config == first.config
    x = torch.randn(3, tiny.HIDDEN, generator=torch.Generator().manual_seed(1))
    for one, other in zip(first.decoder.layers, second.decoder.layers, strict=True):
        assert torch.equal(one.qkv(x), other.qkv(x))
    assert torch.equal(first.decoder.logits(x), second.decoder.logits(x))
    assert len(folders(cache)) == 1


def test_a_damaged_folder_is_packed_anew(source, cache):
    expected = embedding(Model.load(str(source), precision="fp32"))
    (folder,) = folders(cache)
    os.truncate(folder / "weights.safetensors", 500)
    assert torch.equal(embedding(Model.load(str(source), precision="fp32")), expected)
    assert folders(cache) == [folder]
    assert torch.equal(packed.load(folder).tensors["embedding"], expected)


def test_a_changed_file_is_packed_to_a_folder_of_its_own(source, cache):
    before = embedding(Model.load(str(source), precision="fp32"))
    tiny.write_gguf(source, tensors=tiny.weights(seed=9))
    os.utime(source, ns=(5, 5))
    after = embedding(Model.load(str(source), precision="fp32"))
    assert not torch.equal(before, after)
    assert len(folders(cache)) == 2


def test_a_full_disk_keeps_nothing_and_the_model_runs(source, cache, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert Model.load(str(source)).decoder.logits(torch.zeros(1, tiny.HIDDEN)).shape == (1, len(tiny.TOKENS))
    assert folders(cache) == []


def test_a_disk_that_fills_up_while_writing_is_no_matter(source, cache, monkeypatch):
    def full(tensors, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packed, "save_file", full)
    assert Model.load(str(source)).name == "tiny"
    assert folders(cache) == []


def test_a_cache_that_cannot_be_made_is_no_matter(source, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("THERMOSCOPE_CACHE", str(tmp_path / "file" / "cache"))
    assert Model.load(str(source)).name == "tiny"


@pytest.mark.parametrize("packed_before", [False, True])
def test_a_model_that_will_not_fit_is_refused_before_loading_with_both_numbers(
    source, monkeypatch, packed_before
):
    if packed_before:
        Model.load(str(source), precision="fp32")
    monkeypatch.setattr(serving, "free_bytes", lambda: GIB // 100)
    monkeypatch.setattr(module.pack, "pack", refuse)
    monkeypatch.setattr(module.pack, "build", refuse)
    with pytest.raises(OutOfMemory) as caught:
        Model.load(str(source), precision="fp32", slots=2000, context=128)
    numbers = re.findall(r"(\d+\.\d\d) GiB", str(caught.value))
    assert len(numbers) == 2
    # 2,000 slots of 128 tokens, each of 2 · 2 layers · 2 heads · 64 numbers of 4 bytes
    assert float(numbers[0]) > 2000 * 128 * 2 * 2 * 2 * 64 * 4 / GIB
    assert numbers[1] == "0.01"
    assert "\n" not in str(caught.value)


def test_memory_is_counted_for_no_longer_a_context_than_the_model_has(source, monkeypatch):
    config = Model.load(str(source), precision="fp32").config
    enough = serving.serving_memory(config, "fp32", slots=3, context=config.context).total
    monkeypatch.setattr(serving, "free_bytes", lambda: enough)
    for context in (None, config.context, 10**9):
        assert Model.load(str(source), precision="fp32", slots=3, context=context).name == "tiny"
    monkeypatch.setattr(serving, "free_bytes", lambda: enough - 1)
    with pytest.raises(OutOfMemory):
        Model.load(str(source), precision="fp32", slots=3)


@pytest.mark.parametrize("precision", ["fp8", "FP32", "", "int 4"])
def test_an_unknown_precision_is_refused_before_anything_is_looked_for(precision, monkeypatch):
    monkeypatch.setattr(module.store, "locate", refuse)
    with pytest.raises(InvalidRequest) as caught:
        Model.load("tiny", precision=precision)
    expected = f"precision: got {precision!r}, expected one of fp32, fp16, bf16, int8, int4."
    assert str(caught.value) == expected
    assert caught.value.param == "precision"


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="nowhere"):
        Model.load(str(tmp_path / "nowhere"))
