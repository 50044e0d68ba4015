"""The same request gives the same tokens: alone, in a batch, streamed, cached or not.

Through the own kernel to the bit. Through a library's matrix product a token may differ only where it is a
tie: where the best two of z / T + noise are closer than a bound that the precision sets. Said for truncation
too: logits that are nowhere further than half the bound from the replayed ones give the one token, and such
logits give the other, for a token at the edge of the kept set is there or not by as little.
"""

import numpy as np
import pytest
import torch

from tests.answers import finish
from tests.prompts import PROMPTS
from thermoscope.engine import scheduler
from thermoscope.engine.engine import Engine
from thermoscope.engine.language_model import LanguageModel
from thermoscope.engine.replay import replay
from thermoscope.engine.request import Request, Sampling
from thermoscope.engine.sampler import Sampler


def tie(model):
    """The widest margin of two tokens that may change places."""
    return 0.0 if model.native else {"fp32": 1e-4, "int4": 0.05}[model.precision]


SETTINGS = (
    Sampling(temperature=0.0, max_tokens=24, ignore_eos=True),
    Sampling(temperature=0.8, top_p=0.9, seed=11, max_tokens=24, ignore_eos=True),
    Sampling(temperature=1.0, top_k=50, min_p=0.02, seed=2**63, max_tokens=24, ignore_eos=True),
    Sampling(temperature=1.3, seed=-5, max_tokens=24, ignore_eos=True),
)


def requests(model):
    return [
        Request(
            prompt=model.tokenizer.chat([{"role": "user", "content": prompt}]),
            sampling=SETTINGS[index % len(SETTINGS)],
        )
        for index, prompt in enumerate(PROMPTS[:8])
    ]


@pytest.fixture(scope="module")
def alone(real):
    """Every request's trace with the engine to itself: what the others are held to."""
    return [finish(Engine(real, slots=1, context=512), [request])[0] for request in requests(real)]


def margin(model, request, said, token, rival):
    """The least bound within which the sampler says `token` after `said`; infinite past the allowed one.

    Every bound that is found has its witness: logits drawn from by the engine's own sampler.
    """
    logits = replay(model, [*request.prompt, *said], logits=True).logits[-1].double().numpy()
    sampling = request.sampling
    for bound in np.unique(np.linspace(0, tie(model), 51)):
        reach = bound / 2 * (sampling.temperature or 1)
        for above, below in ((0, 0), (-1, 1), (1, -1)):  # the nucleus ends later, or sooner
            moved = logits + reach * np.where(logits > logits[token], above, below)
            moved[token], moved[rival] = logits[token] + reach, logits[rival] - reach
            sampler = Sampler(sampling, seed=sampling.seed or 0, choice=0, prompt=request.prompt)
            if sampler.draw(moved, len(said), None)[0] == token:
                return bound
    return np.inf


def same_or_tie(model, request, one, other):
    """Equal, or the first difference is a tie; prints the margin of each tie."""
    for position, (a, b) in enumerate(zip(one, other, strict=True)):
        if a != b:
            gap = max(margin(model, request, one[:position], *pair) for pair in ((a, b), (b, a)))
            print(f"{model.precision}: tokens {a} and {b} at {position}, margin {gap:.1e}")
            assert gap <= tie(model)
            return


def test_another_token_is_no_tie(real, alone):
    for request, trace in zip(requests(real)[:4], alone[:4], strict=True):
        other = (trace.tokens[1], *trace.tokens[1:])
        assert other != trace.tokens
        with pytest.raises(AssertionError):
            same_or_tie(real, request, trace.tokens, other)


def test_a_batch_of_eight_gives_what_each_gives_alone(real, alone):
    asked = requests(real)
    together = finish(Engine(real, slots=8, context=512), asked)
    for request, one, trace in zip(asked, alone, together, strict=True):
        same_or_tie(real, request, one.tokens, trace.tokens)


def test_requests_that_join_late_and_leave_early_change_nothing(real, alone):
    asked = requests(real)
    engine = Engine(real, slots=4, context=512)
    watched = engine.prepare(asked[1])
    gone = engine.prepare(asked[0])
    engine.submit(gone)
    for _ in range(5):
        engine.step()
    engine.submit(watched)
    engine.step()
    engine.cancel(gone)
    for request in asked[2:]:
        engine.submit(engine.prepare(request))
    while engine.busy:
        engine.step()
    same_or_tie(real, asked[1], alone[1].tokens, watched.sequences[0].trace.tokens)


def test_cached_decoding_gives_what_one_uncached_pass_gives(real, alone):
    for request, trace in zip(requests(real)[:4], alone[:4], strict=True):
        whole = replay(real, [*trace.prompt, *trace.tokens], logits=True)
        scores = whole.logits[len(trace.prompt) - 1 : -1].double().numpy()
        assert whole.logprob_residual(trace) <= max(20 * tie(real), 1e-9)
        if request.sampling.temperature == 0:
            same_or_tie(real, request, trace.tokens, scores.argmax(axis=1).tolist())


def test_streamed_tokens_and_text_are_those_of_the_whole(real):
    with LanguageModel(lambda: Engine(real, slots=2, context=512)) as lm:
        settings = {"temperature": 0.9, "seed": 4, "max_tokens": 24}
        reply = lm.chat("Name three rivers.", **settings)
        deltas = list(lm.stream_chat("Name three rivers.", **settings))
    assert [delta.step.token for delta in deltas] == list(reply.trace.tokens)
    assert "".join(delta.text for delta in deltas) == reply.text


def test_recording_changes_no_token(real, alone):
    for request, with_records in zip(requests(real)[:4], alone[:4], strict=True):
        bare = Request(prompt=request.prompt, sampling=request.sampling, record=False)
        (without,) = finish(Engine(real, slots=1, context=512), [bare])
        assert with_records.tokens == without.tokens
        assert all(step.record is None for step in without.steps)


@pytest.mark.parametrize("chunk", [1, 16, 100])
def test_a_prompt_in_chunks_gives_what_it_gives_at_once(real, alone, chunk, monkeypatch):
    request, at_once = requests(real)[4], alone[4]
    assert len(request.prompt) < scheduler.PREFILL_CHUNK
    monkeypatch.setattr(scheduler, "PREFILL_CHUNK", chunk)
    (in_chunks,) = finish(Engine(real, slots=1, context=512), [request])
    same_or_tie(real, request, at_once.tokens, in_chunks.tokens)


def test_the_head_gives_float32_logits(real):
    """Logits near 16 are a sixteenth apart in bfloat16; ours are not on that grid."""
    logits = replay(real, list(requests(real)[0].prompt), logits=True).logits
    assert (logits != logits.bfloat16().float()).double().mean() > 0.9
    assert logits.dtype == torch.float32
