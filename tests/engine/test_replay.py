"""What a replay keeps, against the definitions, on three families of tiny models."""

import math

import pytest
import torch

from tests import tiny
from thermoscope.engine.engine import Engine
from thermoscope.engine.replay import QUANTITIES, replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.errors import ContextExceeded, InvalidRequest

TOKENS = torch.randint(2, tiny.VOCAB, (40,), generator=torch.Generator().manual_seed(6)).tolist()


@pytest.fixture(scope="module", params=["llama", "mistral", "qwen3"])
def family(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return tiny.ours(tiny.save(tiny.reference(request.param), folder))


@pytest.fixture(scope="module")
def whole(family):
    return replay(family, TOKENS, keep=QUANTITIES, logits=True)


def spoken(model, **sampling):
    engine = Engine(model, slots=1, context=64)
    asked = Request(prompt=(10, 20), sampling=Sampling(seed=1, max_tokens=12, ignore_eos=True, **sampling))
    generation = engine.prepare(asked)
    engine.submit(generation)
    while engine.busy:
        engine.step()
    return generation.sequences[0].trace


def test_every_quantity_has_its_shape_in_every_layer(family, whole):
    config, n = family.config, len(TOKENS)
    shapes = {
        "residual": (n, config.hidden),
        "q": (n, config.heads, config.head_dim),
        "k": (n, config.kv_heads, config.head_dim),
        "v": (n, config.kv_heads, config.head_dim),
        "attention": (config.heads, n, n),
        "head_out": (n, config.heads, config.head_dim),
        "attention_out": (n, config.hidden),
        "mlp_out": (n, config.hidden),
    }
    expected = {(name, layer): shape for name, shape in shapes.items() for layer in range(config.layers)}
    expected["residual", config.layers] = shapes["residual"]
    assert {place: tuple(kept.shape) for place, kept in whole.kept.items()} == expected
    assert whole.logits.shape == (n, config.vocab)
    assert whole.logits.dtype == torch.float32
    assert whole.logprobs.shape == (n - 1,)
    assert whole.logprobs.dtype == torch.float64


def test_attention_is_the_softmax_of_the_kept_queries_and_keys(family, whole):
    """c_t = softmax(q Kᵀ / √d) V from what was kept, through the layer's output, is what attention added."""
    config = family.config
    position = torch.arange(len(TOKENS))
    for layer in range(config.layers):
        q, k, v = (whole.kept[name, layer].double() for name in ("q", "k", "v"))
        shared = config.heads // config.kv_heads
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(config.head_dim)
        seen = position[None] <= position[:, None]
        if config.window and config.windowed[layer]:
            seen &= position[None] > position[:, None] - config.window
        attention = scores.masked_fill(~seen, -math.inf).softmax(dim=-1)
        assert (whole.kept["attention", layer] - attention).abs().max() <= 1e-5
        mixed = torch.einsum("hts,shd->thd", attention, v).flatten(1)
        output = mixed @ family.decoder.layers[layer].output.weight().double().T
        assert (whole.kept["attention_out", layer] - output).abs().max() <= 1e-5


def test_the_residual_stream_is_the_sum_of_what_the_layers_added(family, whole):
    stream = whole.kept["residual", 0].clone()
    assert torch.equal(stream, family.decoder.embedding[TOKENS])
    for layer in range(family.config.layers):
        stream += whole.kept["attention_out", layer] + whole.kept["mlp_out", layer]
        torch.testing.assert_close(whole.kept["residual", layer + 1], stream, rtol=0, atol=1e-5)


def test_the_last_residual_is_before_the_final_norm_and_gives_the_logits(family, whole):
    last = whole.kept["residual", family.config.layers]
    torch.testing.assert_close(family.decoder.logits(last), whole.logits, rtol=0, atol=1e-5)


def test_logprobs_are_of_each_token_given_those_before(whole):
    law = whole.logits.double().log_softmax(dim=-1)
    for position, token in enumerate(TOKENS[1:]):
        assert float(whole.logprobs[position]) == pytest.approx(float(law[position, token]), abs=1e-12)


def test_only_what_was_asked_for_is_kept(model):
    some = replay(model, TOKENS, keep=["k", "attention"], layers=[0, 2])
    assert set(some.kept) == {("k", 0), ("k", 2), ("attention", 0), ("attention", 2)}
    assert some.logits is None
    each = replay(model, TOKENS, keep={"residual": None, "q": [1]})
    assert set(each.kept) == {("q", 1), *(("residual", layer) for layer in range(4))}
    nothing = replay(model, TOKENS)
    assert nothing.kept == {}
    assert torch.equal(nothing.logprobs, some.logprobs)
    last = replay(model, TOKENS, keep=["residual"], layers=[model.config.layers])
    assert set(last.kept) == {("residual", model.config.layers)}


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 17])
def test_chunks_join_to_what_one_pass_gives(model, monkeypatch, length):
    from thermoscope.engine import replay as module

    at_once = replay(model, TOKENS[:length], keep=QUANTITIES, logits=True)
    monkeypatch.setattr(module, "PREFILL_CHUNK", 8)
    in_chunks = replay(model, TOKENS[:length], keep=QUANTITIES, logits=True)
    assert in_chunks.kept.keys() == at_once.kept.keys()
    for place, kept in at_once.kept.items():
        torch.testing.assert_close(in_chunks.kept[place], kept, rtol=0, atol=1e-5)
    torch.testing.assert_close(in_chunks.logits, at_once.logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(in_chunks.logprobs, at_once.logprobs, rtol=0, atol=1e-4)
    assert in_chunks.logprobs.shape == (length - 1,)


@pytest.mark.parametrize("first", [0, 1, 7, 8, 9, 39, 40])
def test_distributions_are_of_what_follows_the_first_that_counts(model, monkeypatch, first):
    from thermoscope.engine import replay as module

    monkeypatch.setattr(module, "PREFILL_CHUNK", 8)
    whole = replay(model, TOKENS, keep=["residual"], logits=True)
    rest = replay(model, TOKENS, keep=["residual"], logits=True, first=first)
    torch.testing.assert_close(rest.logits, whole.logits[first:], rtol=0, atol=1e-4)
    torch.testing.assert_close(rest.logprobs, whole.logprobs[first:], rtol=0, atol=1e-4)
    assert rest.kept.keys() == whole.kept.keys()
    assert all(torch.equal(kept, whole.kept[place]) for place, kept in rest.kept.items())


def test_the_head_takes_no_rows_before_the_first_that_counts(model, monkeypatch):
    from thermoscope.engine import replay as module

    monkeypatch.setattr(module, "PREFILL_CHUNK", 8)
    rows, head = [], model.decoder.logits
    monkeypatch.setattr(model.decoder, "logits", lambda x: (rows.append(len(x)), head(x))[1])
    replay(model, TOKENS, first=29)
    assert rows == [3, 8]
    rows.clear()
    replay(model, TOKENS, keep=["residual"], first=len(TOKENS))
    assert rows == []


def test_a_sequence_as_long_as_the_context_is_replayed(model):
    assert replay(model, [5] * model.config.context).logprobs.shape == (model.config.context - 1,)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.0}, {"temperature": 2.0, "top_p": 0.9}])
def test_a_replay_gives_the_logprobs_that_were_recorded(model, sampling):
    trace = spoken(model, **sampling)
    assert replay(model, [*trace.prompt, *trace.tokens]).logprob_residual(trace) <= 1e-4


def test_the_residual_shows_a_record_that_is_wrong(model):
    from dataclasses import replace

    trace = spoken(model)
    wrong = replace(trace.steps[5].record, logprob=trace.steps[5].record.logprob - 0.25)
    trace.steps[5] = replace(trace.steps[5], record=wrong)
    seen = replay(model, [*trace.prompt, *trace.tokens])
    assert seen.logprob_residual(trace) == pytest.approx(0.25, abs=1e-4)


def test_a_trace_of_other_tokens_or_without_records_has_no_residual(model):
    from dataclasses import replace

    trace = spoken(model)
    with pytest.raises(InvalidRequest, match="got other tokens"):
        replay(model, TOKENS).logprob_residual(trace)
    seen = replay(model, [*trace.prompt, *trace.tokens])
    trace.steps[3] = replace(trace.steps[3], record=None)
    with pytest.raises(InvalidRequest, match="without records"):
        seen.logprob_residual(trace)
    whole = spoken(model)
    tokens, first = (*whole.prompt, *whole.tokens), len(whole.prompt) - 1
    assert replay(model, tokens, first=first).logprob_residual(whole) <= 1e-4
    with pytest.raises(
        InvalidRequest, match="first: got log-probabilities of 11 tokens, expected those of all 12"
    ):
        replay(model, tokens, first=first + 1).logprob_residual(whole)
    trace.steps.clear()
    with pytest.raises(InvalidRequest, match="without records"):
        replay(model, trace.prompt).logprob_residual(trace)


@pytest.mark.parametrize(
    ("tokens", "asked", "error", "message"),
    [
        ([], {}, InvalidRequest, "tokens: got none"),
        ([5] * 257, {}, ContextExceeded, "got 257 tokens to replay, expected at most 256"),
        ([5, 96], {}, InvalidRequest, "tokens: got token id 96, expected 0 to 95"),
        ([-1], {}, InvalidRequest, "tokens: got token id -1"),
        ([5], {"keep": ["values"]}, InvalidRequest, "keep: got 'values', expected some of residual, q"),
        ([5], {"keep": ["residual"], "layers": [4]}, InvalidRequest, "got 4 for residual, expected 0 to 3"),
        ([5], {"keep": ["q"], "layers": [3]}, InvalidRequest, "layers: got 3 for q, expected 0 to 2"),
        ([5], {"keep": ["q"], "layers": [-1]}, InvalidRequest, "layers: got -1 for q, expected 0 to 2"),
        ([5], {"first": 2}, InvalidRequest, "first: got 2, expected 0 to 1, the tokens"),
        ([5], {"first": -1}, InvalidRequest, "first: got -1, expected 0 to 1, the tokens"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(model, tokens, asked, error, message):
    with pytest.raises(error, match=message):
        replay(model, tokens, **asked)
