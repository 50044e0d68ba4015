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
