"""A text's vector against the mean of transformers' last hidden states."""

import pytest
import torch

from tests import tiny
from thermoscope.engine.embedding import embedding, states
from thermoscope.models.foreign import Foreign

TOKENS = torch.randint(2, tiny.VOCAB, (150,), generator=torch.Generator().manual_seed(5)).tolist()


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_it_is_the_mean_of_the_last_hidden_states(kind, tmp_path):
    network = tiny.reference(kind)
    model = tiny.ours(tiny.save(network, tmp_path))
    with torch.no_grad():
        mean = network.base_model(torch.tensor([TOKENS])).last_hidden_state[0].double().mean(dim=0)
    found = embedding(list(states(model, TOKENS)))
    assert found == pytest.approx((mean / mean.norm()).tolist(), abs=1e-5)


def test_of_a_family_that_runs_through_transformers(tmp_path):
    network = tiny.reference("stablelm")
    opened = Foreign.open(tiny.save(network, tmp_path))
    adapter = opened.load()
    x = torch.randn(7, 64, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected = network.base_model.norm(x)
        assert torch.allclose(adapter.normed(x), expected, atol=1e-5)


def test_it_has_length_one(tmp_path):
    model = tiny.ours(tiny.save(tiny.reference("qwen2"), tmp_path))
    found = embedding(list(states(model, TOKENS[:3])))
    assert sum(each * each for each in found) == pytest.approx(1, abs=1e-12)
