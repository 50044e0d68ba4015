"""The native step: close to the readable decoder layer by layer, and a row's bits its own.

Contexts here pass attention's sections of 32 positions many times, and windows begin in several of them.
"""

from dataclasses import replace

import pytest
import torch

from tests import tiny
from thermoscope.models import pack
from thermoscope.models.cache import KVCache, Span
from thermoscope.models.checkpoint import open_checkpoint
from thermoscope.models.decoder import Decoder
from thermoscope.models.fused import PRODUCTS, Fused
from thermoscope.models.kernels import build
from thermoscope.models.probe import Probe

pytestmark = pytest.mark.usefixtures("compiled")

COUNT, CONTEXT = 310, 320
TOKENS = torch.randint(2, tiny.VOCAB, (COUNT,), generator=torch.Generator().manual_seed(8))
MODELS = {
    "llama": ("llama", None),
    "llama3, biases": ("llama3", None),
    "mistral, window 16": ("mistral", 16),
    "mistral, window 150": ("mistral", 150),
    "qwen2": ("qwen2", None),
    "qwen2, window 150": ("qwen2-windowed", 150),
    "qwen3": ("qwen3", None),
    "olmo2": ("olmo2", None),
    "phi3, window 16": ("phi3", 16),
    "gemma3, window 150": ("gemma3", 150),
}


def fused(name, precision, folder):
    kind, window = MODELS[name]
    checkpoint = open_checkpoint(tiny.save(tiny.reference(kind), folder))
    config = replace(checkpoint.config, window=window)
    decoder = pack.build(config, dict(pack.pack(checkpoint, precision, native=True)))
    assert isinstance(decoder, Fused)
    return decoder


@pytest.fixture(
    scope="module", params=[(name, bits) for name in MODELS for bits in ("int4", "int8")], ids=str
)
def decoder(request, compiled, tmp_path_factory):
    return fused(*request.param, tmp_path_factory.mktemp("model"))


@pytest.fixture
def threads():
    library = build.loaded()
    usual = library.threads
    yield lambda number: setattr(library, "threads", number)
    library.threads = usual


def new_cache(decoder, slots=1, context=CONTEXT):
    return KVCache(decoder.config, slots=slots, context=context, dtype=torch.float16)


def run(decoder, spans, cache, tokens=TOKENS, probe=None):
    rows = torch.cat([tokens[span.start : span.start + span.count] for span in spans])
    with torch.inference_mode():
        return decoder.forward(rows.tolist(), spans, cache, probe)


@pytest.fixture(scope="module")
def whole(decoder):
    """All positions in one call, and the logits."""
    hidden = run(decoder, [Span(0, 0, COUNT)], new_cache(decoder))
    return hidden, decoder.logits(hidden)


class Watched:
    """A product that remembers how large one code of its input was, times its largest weight."""

    def __init__(self, product):
        self.product, self.code = product, 0.0

    def __call__(self, x):
        self.code = float(x.abs().max() / 127 * self.product.weight().abs().max())
        return self.product(x)


def probed(decoder, spans, cache, tokens):
    seen = {}
    with torch.inference_mode():
        decoder.forward(tokens.tolist(), spans, cache, Probe(lambda *key: seen.__setitem__(key[:2], key[2])))
    return seen


def test_each_layer_does_what_the_readable_decoder_does(decoder):
    config = decoder.config
    spans = [Span(0, 0, COUNT)]
    ours = probed(decoder, spans, new_cache(decoder), TOKENS)
    for index, layer in enumerate(decoder.layers):
        watched = {name: Watched(getattr(layer, name)) for name in PRODUCTS}
        one = replace(config, layers=1, windowed=config.windowed[index : index + 1], embedding_scale=1.0)
        # The layer alone, on what our layer found: rows as the embedding of token 0, 1, 2, ...
        plain = Decoder(
            one,
            embedding=ours["residual", index],
            layers=[replace(layer, **watched)],
            final_norm=decoder.final_norm,
            head=decoder.head,
        )
        plain.rotary, plain.window_rotary = decoder.plain.rotary, decoder.plain.window_rotary
        theirs = probed(plain, spans, new_cache(plain), torch.arange(COUNT))

        # Norms, softmax and activations differ in their last places: a number between two codes may take the
        # other one. In a row of 64 numbers that hardly happens to more than two.
        def near(name, bound, theirs=theirs, index=index):
            torch.testing.assert_close(ours[name, index], theirs[name, 0], rtol=2**-10, atol=bound, msg=name)

        code = {name: each.code for name, each in watched.items()}
        for name in ("q", "k", "v"):  # rounded to half precision, where they are
            near(name, 2 * code["qkv"])
        near("attention", 0.01)
        near("attention_out", 2 * code["output"])
        near("mlp_out", 3 * code["down"])
        after = ours["residual", index] + ours["attention_out", index] + ours["mlp_out", index]
        torch.testing.assert_close(ours["residual", index + 1], after, rtol=0, atol=1e-5)


def test_logits_are_the_readable_decoder_s(decoder, whole):
    head = Watched(decoder.head)
    with torch.inference_mode():
        theirs = head(decoder.plain._norm(whole[0], decoder.final_norm))
    torch.testing.assert_close(whole[1], theirs, rtol=0, atol=2 * head.code)


@pytest.mark.parametrize("chunk", [1, 7, 128, 129, 309])
def test_chunks_give_the_same_bits(decoder, whole, chunk):
    cache = new_cache(decoder, slots=2)
    parts = [run(decoder, [Span(1, at, min(chunk, COUNT - at))], cache) for at in range(0, COUNT, chunk)]
    assert torch.equal(torch.cat(parts), whole[0])


@pytest.mark.parametrize(("slot", "slots", "context"), [(0, 1, 310), (2, 3, 311), (1, 2, 1000)])
def test_slot_and_context_change_no_bit(decoder, whole, slot, slots, context):
    cache = new_cache(decoder, slots, context)
    assert torch.equal(run(decoder, [Span(slot, 0, COUNT)], cache), whole[0])
    cache.truncate(slot, 290)
    assert torch.equal(run(decoder, [Span(slot, 290, 1)], cache), whole[0][290:291])


def test_threads_change_no_bit(decoder, whole, threads):
    for number in (1, 2, 3, 5, 2, 1):
        threads(number)
        cache = new_cache(decoder)
        assert torch.equal(run(decoder, [Span(0, 0, 300)], cache), whole[0][:300])
        assert torch.equal(run(decoder, [Span(0, 300, 1)], cache), whole[0][300:301])
        assert torch.equal(decoder.logits(whole[0][:9]), whole[1][:9])


def test_company_changes_no_bit(decoder, whole):
    cache = new_cache(decoder, slots=5)
    run(decoder, [Span(0, 0, 10), Span(1, 0, 20), Span(3, 0, 300), Span(4, 0, 1)], cache)
    spans = [Span(3, 300, 1), Span(0, 10, 1), Span(4, 1, 200), Span(1, 20, 5)]
    mixed = run(decoder, spans, cache)
    wanted = [whole[0][span.start : span.start + span.count] for span in spans]
    assert torch.equal(mixed, torch.cat(wanted))


def test_other_tokens_beside_it_change_no_bit(decoder, whole):
    cache = new_cache(decoder, slots=2)
    tokens = torch.cat([TOKENS.flip(0), TOKENS])
    with torch.inference_mode():
        both = decoder.forward(tokens.tolist(), [Span(0, 0, COUNT), Span(1, 0, COUNT)], cache)
    assert torch.equal(both[COUNT:], whole[0])
    assert not torch.equal(both[:COUNT], whole[0])


def test_a_row_has_the_same_logits_in_any_company(decoder, whole):
    for count in (1, 2, 3, 5, 8, 17, 64):
        assert torch.equal(decoder.logits(whole[0][:count]), whole[1][:count])
        assert torch.equal(decoder.logits(whole[0][COUNT - count :]), whole[1][COUNT - count :])


def test_a_probe_changes_no_bit_and_keeps_what_it_saw(decoder, whole):
    seen = {}
    looked = run(
        decoder,
        [Span(0, 0, COUNT)],
        new_cache(decoder),
        probe=Probe(lambda *key: seen.__setitem__(key[:2], key[2])),  # no copies
    )
    assert torch.equal(looked, whole[0])
    assert torch.equal(seen["residual", decoder.config.layers], whole[0])
    expected = decoder.embedding[TOKENS].float() * decoder.config.embedding_scale
    assert torch.equal(seen["residual", 0], expected)


def test_rollback_and_overwriting_leave_nothing_behind(decoder, whole):
    cache = new_cache(decoder)
    run(decoder, [Span(0, 0, COUNT)], cache, tokens=TOKENS.flip(0))
    cache.truncate(0, 0)
    run(decoder, [Span(0, 0, 200)], cache)
    run(decoder, [Span(0, 200, 50)], cache, tokens=TOKENS.flip(0))
    cache.truncate(0, 200)
    assert torch.equal(run(decoder, [Span(0, 200, 110)], cache), whole[0][200:])


def test_a_window_hides_what_lies_before_it(tmp_path):
    """Other tokens out of every layer's reach change no bit; one within it does."""
    decoder = fused("mistral, window 16", "int4", tmp_path)
    reach = decoder.config.layers * (16 - 1)
    (expected,) = run(decoder, [Span(0, 0, COUNT)], new_cache(decoder))[-1:]
    for changed, same in ((COUNT - 2 - reach, True), (COUNT - 2, False)):
        tokens = TOKENS.clone()
        tokens[changed] = (tokens[changed] - 1) % tiny.VOCAB
        (other,) = run(decoder, [Span(0, 0, COUNT)], new_cache(decoder), tokens)[-1:]
        assert torch.equal(other, expected) == same


def test_a_place_that_is_none_is_refused(decoder):
    cache = new_cache(decoder, slots=2)
    for span in (Span(2, 0, 1), Span(-1, 0, 1), Span(0, -1, 1), Span(0, CONTEXT, 1), Span(0, 0, 0)):
        with pytest.raises(ValueError, match="expected"), torch.inference_mode():
            decoder.forward(TOKENS[: span.count].tolist(), [span], cache)
    with pytest.raises(ValueError, match="got 3 tokens"), torch.inference_mode():
        decoder.forward(TOKENS[:3].tolist(), [Span(0, 0, 2)], cache)
    with pytest.raises(ValueError, match=r"torch\.float32"), torch.inference_mode():
        decoder.forward(TOKENS[:2].tolist(), [Span(0, 0, 2)], KVCache(decoder.config, slots=1, context=8))
    for token in (-1, len(decoder.embedding)):
        with pytest.raises(IndexError, match="tokens: got"), torch.inference_mode():
            decoder.forward([0, token], [Span(0, 0, 2)], cache)
