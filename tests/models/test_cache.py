import pytest
import torch

from tests import tiny
from thermoscope.catalogue.hf_config import read_hf
from thermoscope.models.cache import KVCache, Span


@pytest.fixture
def cache():
    config = read_hf(tiny.CONFIGS["llama"]().to_dict())
    return KVCache(config, slots=3, context=8)


def test_rows_land_in_their_slot_and_position(cache):
    keys, values = torch.randn(2, 2, 16), torch.randn(2, 2, 16)
    cache.write(1, cache.places(torch.tensor([2, 0]), torch.tensor([5, 1])), keys, values)
    assert torch.equal(cache.keys[1, 4:6, 5], keys[0])
    assert torch.equal(cache.values[1, 0:2, 1], values[1])
    assert cache.keys.count_nonzero() == keys.numel()


def test_lengths_follow_spans_and_roll_back(cache):
    cache.extend([Span(0, 0, 5), Span(2, 0, 3)])
    assert cache.lengths == [5, 0, 3]
    cache.truncate(0, 2)
    assert cache.lengths == [2, 0, 3]
    with pytest.raises(ValueError, match="expected 0 to 2"):
        cache.truncate(0, 3)


def test_memory_is_asked_for_but_not_touched():
    import psutil

    config = read_hf(tiny.CONFIGS["llama"]().to_dict())
    before = psutil.Process().memory_info().rss
    large = KVCache(config, slots=8, context=200_000)
    assert large.keys.nbytes > 500 * 2**20
    assert psutil.Process().memory_info().rss - before < 50 * 2**20


def test_a_slot_is_filled_from_another(cache):
    cache.keys.normal_()
    cache.values.normal_()
    before = cache.keys.clone(), cache.values.clone()
    cache.copy(0, 2, 5)
    for now, was in zip((cache.keys, cache.values), before, strict=True):
        assert torch.equal(now[:, 4:6, :5], was[:, 0:2, :5])
        assert torch.equal(now[:, 4:6, 5:], was[:, 4:6, 5:])
        assert torch.equal(now[:, :4], was[:, :4])
    assert cache.lengths == [0, 0, 5]
    keys, values = cache.read(1, slice(1, 3), 4)
    assert torch.equal(keys, cache.keys[1, 2:6, :4])
    assert torch.equal(values, cache.values[1, 2:6, :4])
