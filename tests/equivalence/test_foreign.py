"""Families that only transformers knows, through the adapter, against transformers by itself."""

import pytest
import torch

from tests import tiny
from tests.answers import finish
from tests.equivalence.agreement import assert_agree
from thermoscope.engine.engine import Engine
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.errors import InvalidRequest
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.intervention import Add, Patch, Suppress
from thermoscope.models.model import Model

TOKENS = torch.randint(2, tiny.VOCAB, (60,), generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module", params=tiny.FOREIGN)
def both(request, tmp_path_factory):
    """transformers' network, and ours of the same folder."""
    network = tiny.reference(request.param)
    return network, Model.load(str(tiny.save(network, tmp_path_factory.mktemp(request.param))))


def run(model, spans, cache, tokens=TOKENS):
    rows = torch.cat([tokens[span.start : span.start + span.count] for span in spans])
    with torch.inference_mode():
        return model.decoder.forward(rows.tolist(), spans, cache)


def test_logits_hidden_states_and_attention_agree(both):
    network, model = both
    assert_agree(network, model, TOKENS, spread=0.1)
    assert replay(model, TOKENS.tolist(), keep=model.decoder.shows).kept.keys() >= {("q", 0), ("v", 0)}


def test_it_can_be_intervened_in(both):
    _, model = both
    tokens, top = TOKENS.tolist(), model.config.layers
    plain = replay(model, tokens, keep=["residual"], logits=True)
    for layer in range(top + 1):
        rows = plain.kept["residual", layer][[20]] + 1
        patched, added = (
            replay(model, tokens, keep=["residual"], logits=True, interventions=[change])
            for change in (Patch(layer, [20], rows), Add(layer, torch.ones(rows.shape[1]), [20]))
        )
        assert torch.equal(patched.logits, added.logits)
        assert torch.equal(patched.kept["residual", layer][20], rows[0])
        assert torch.equal(patched.logits[:20], plain.logits[:20])
        assert not torch.equal(patched.logits[20], plain.logits[20])
    others = [*reversed(tokens[:30]), *tokens[30:]]
    one, two = (
        replay(model, each, logits=True, interventions=[Suppress(range(30))]).logits
        for each in (tokens, others)
    )
    assert torch.equal(one[30:], two[30:])
    assert not torch.equal(one[30:], plain.logits[30:])


def test_attention_is_of_the_queries_and_keys_that_are_shown(both):
    _, model = both
    config = model.config
    kept = replay(model, TOKENS.tolist(), keep=("q", "k", "v", "attention")).kept
    shared = config.heads // config.kv_heads
    for layer in range(config.layers):
        q, k = kept["q", layer], kept["k", layer].repeat_interleave(shared, dim=1)
        assert kept["v", layer].shape == (60, config.kv_heads, config.head_dim)
        scores = torch.einsum("qhd,khd->hqk", q, k)
        shown = kept["attention", layer][:, 5, :6].log()  # within every window
        slope = (shown[:, 1:] - shown[:, :1]) / (scores[:, 5, 1:6] - scores[:, 5, :1])
        if config.family != "gemma2":  # whose scores are bent by a cap
            torch.testing.assert_close(slope, slope.mean().expand_as(slope), rtol=1e-2, atol=1e-2)
        assert (slope > 0).all()


@pytest.mark.parametrize("chunk", [1, 7, 59])
def test_cached_gives_what_uncached_gives(both, chunk):
    _, model = both
    cache = KVCache(model.config, slots=3, context=80)
    parts = [run(model, [Span(1, at, min(chunk, 60 - at))], cache) for at in range(0, 60, chunk)]
    whole = run(model, [Span(0, 0, 60)], KVCache(model.config, slots=1, context=64))
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)


def test_sequences_of_one_call_do_not_see_each_other(both):
    _, model = both
    cache = KVCache(model.config, slots=5, context=64)
    expected = run(model, [Span(0, 0, 60)], KVCache(model.config, slots=1, context=64))
    run(model, [Span(0, 0, 10), Span(1, 0, 20), Span(3, 0, 30), Span(4, 0, 1)], cache)
    mixed = run(model, [Span(0, 10, 1), Span(1, 20, 1), Span(3, 30, 5), Span(4, 1, 40)], cache)
    wanted = torch.cat([expected[10:11], expected[20:21], expected[30:35], expected[1:41]])
    torch.testing.assert_close(mixed, wanted, rtol=0, atol=1e-4)


def test_a_batch_gives_what_each_gives_alone(both):
    _, model = both
    greedy = Sampling(temperature=0.0, max_tokens=12, ignore_eos=True)
    asked = [Request(prompt=tuple(TOKENS[at : at + 9].tolist()), sampling=greedy) for at in (0, 11, 23)]

    def spoken(slots, requests):
        return finish(Engine(model, slots=slots, context=64), requests)

    for together, request in zip(spoken(3, asked), asked, strict=True):
        (alone,) = spoken(1, [request])
        assert alone.tokens == together.tokens
        for a, b in zip(alone.steps, together.steps, strict=True):
            assert a.record.logprob == pytest.approx(b.record.logprob, abs=1e-4)


def test_what_it_cannot_show_is_refused(both):
    _, model = both
    with pytest.raises(InvalidRequest, match=r"keep: got 'mlp_out', expected some of residual, q, k, v"):
        replay(model, TOKENS.tolist(), keep=("mlp_out",))


def test_the_table_of_tokens_and_the_head_are_the_networks(both):
    network, model = both
    assert torch.equal(model.decoder.embedding, network.get_input_embeddings().weight)
    assert torch.equal(model.decoder.head.weight(), network.get_output_embeddings().weight)
