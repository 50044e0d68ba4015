from dataclasses import replace

import pytest

from tests.planning.memory.shapes import LATENT, MISTRAL, QWEN
from thermoscope.errors import InvalidRequest
from thermoscope.planning.memory.inference import Inference, cache_bytes, plan
from thermoscope.planning.memory.parallel import Parallel

JOB = Inference(shape=MISTRAL, sequence=1024)


def test_the_cache_of_qwen3_grows_by_112_kib_a_token():
    assert cache_bytes(QWEN, 1001) - cache_bytes(QWEN, 1000) == 112 * 1024


def test_a_window_bounds_the_cache_of_its_layers():
    gemma = replace(QWEN, window=512, windowed=(True, True, True, True, True, False))
    every, local = 28 // 6, 28 - 28 // 6
    assert cache_bytes(gemma, 4096) == 2 * 2 * 8 * 128 * (every * 4096 + local * 512)


def test_latent_attention_caches_the_squeezed_keys():
    assert cache_bytes(LATENT, 10) == 10 * 3 * (16 + 8) * 2


@pytest.mark.parametrize(
    ("form", "share"), [("fp8", 1 / 2), ("int8", 33 / 64), ("int4", 9 / 32), ("fp32", 2)]
)
def test_a_quantised_cache(form, share):
    assert cache_bytes(QWEN, 64, form) == pytest.approx(share * cache_bytes(QWEN, 64))


def test_weights_and_cache_stand_in_both_phases():
    found = plan(JOB)
    assert found.steady["weights"] == 2 * MISTRAL.parameters
    assert found.phases["prefill"]["cache"] == found.phases["decode"]["cache"] == 128 * 1024 * 1024
    assert found.peak_phase == "prefill"


def test_a_chunked_prefill_holds_less():
    assert plan(replace(JOB, chunk=128)).peak < plan(JOB).peak


def test_tensor_parallelism_splits_weights_and_cache():
    found = plan(replace(JOB, parallel=Parallel(tensor=4))).steady
    assert found["weights"] == 2 * MISTRAL.parameters / 4
    assert found["cache"] == 32 * 1024 * 1024


# torch.cuda.max_memory_allocated, LitGPT's tutorials/quantize.md (commit 26857050): GB.
@pytest.mark.parametrize(("form", "measured"), [("nf4", 4.57), ("nf4-dq", 4.26)])
def test_a_run_that_was_measured(form, measured):
    llama = replace(MISTRAL, kv_heads=32, ffn=11008)
    assert plan(Inference(shape=llama, weights=form, sequence=60)).peak / 1e9 == pytest.approx(
        measured, rel=0.02
    )


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidRequest, match="kv: got 'fp4', expected one of fp32, "):
        plan(replace(JOB, kv="fp4"))
    with pytest.raises(InvalidRequest, match="batch: got 0"):
        replace(JOB, batch=0)
    with pytest.raises(InvalidRequest, match="seq: got 99999 tokens, expected at most 32768"):
        replace(JOB, sequence=99999)
