"""The decoder against itself: chunks, slots, rollback, probes. Against `transformers`: tests/equivalence."""

import pytest
import torch

from tests import tiny
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.probe import Probe

TOKENS = torch.randint(2, tiny.VOCAB, (60,), generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen3", "qwen3-moe", "gemma3", "gpt2"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return tiny.ours(tiny.save(tiny.reference(request.param), folder))


def run(model, spans, cache, tokens=TOKENS):
    rows = torch.cat([tokens[span.start : span.start + span.count] for span in spans])
    with torch.inference_mode():
        return model.decoder.forward(rows.tolist(), spans, cache)


def whole(model):
    return run(model, [Span(0, 0, 60)], KVCache(model.config, slots=1, context=64))


@pytest.mark.parametrize("chunk", [1, 7, 20, 59])
def test_chunks_give_what_one_pass_gives(model, chunk):
    cache = KVCache(model.config, slots=3, context=80)
    parts = [run(model, [Span(1, at, min(chunk, 60 - at))], cache) for at in range(0, 60, chunk)]
    torch.testing.assert_close(torch.cat(parts), whole(model), rtol=0, atol=1e-4)


def test_sequences_of_one_call_do_not_see_each_other(model):
    cache = KVCache(model.config, slots=5, context=64)
    expected = whole(model)
    # Slots 0, 1 and 3, 4 are two runs of neighbours; the spans have unequal ends and lengths.
    run(model, [Span(0, 0, 10), Span(1, 0, 20), Span(3, 0, 30), Span(4, 0, 1)], cache)
    mixed = run(model, [Span(0, 10, 1), Span(1, 20, 1), Span(3, 30, 5), Span(4, 1, 40)], cache)
    wanted = torch.cat([expected[10:11], expected[20:21], expected[30:35], expected[1:41]])
    torch.testing.assert_close(mixed, wanted, rtol=0, atol=1e-4)


def test_rolling_back_is_as_if_it_never_was(model):
    cache = KVCache(model.config, slots=1, context=64)
    run(model, [Span(0, 0, 30)], cache)
    first = run(model, [Span(0, 30, 1)], cache)
    run(model, [Span(0, 31, 20)], cache)
    cache.truncate(0, 30)
    assert torch.equal(run(model, [Span(0, 30, 1)], cache), first)


def test_what_a_slot_held_before_does_not_show(model):
    cache = KVCache(model.config, slots=1, context=64)
    run(model, [Span(0, 0, 60)], cache, tokens=TOKENS.flip(0))
    cache.truncate(0, 0)
    torch.testing.assert_close(run(model, [Span(0, 0, 60)], cache), whole(model), rtol=0, atol=1e-5)


def test_positions_past_the_cache_are_refused(model):
    cache = KVCache(model.config, slots=1, context=16)
    with pytest.raises(ValueError, match="expected them within the cache's 16"):
        run(model, [Span(0, 10, 7)], cache)


def test_a_probe_changes_nothing_and_sees_sums_that_hold(model):
    seen = {}

    def probe(name, layer, value):
        seen[name, layer] = value.clone()

    with torch.inference_mode():
        cache = KVCache(model.config, slots=1, context=64)
        looked = model.decoder.forward(TOKENS.tolist(), [Span(0, 0, 60)], cache, Probe(probe))
    assert torch.equal(looked, whole(model))
    for layer in range(model.config.layers):
        after = seen["residual", layer] + seen["attention_out", layer] + seen["mlp_out", layer]
        torch.testing.assert_close(after, seen["residual", layer + 1], rtol=0, atol=1e-5)
        weights = seen["attention", layer]
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert (weights.triu(1)[..., :59, :] == 0).all()
