from dataclasses import replace

import pytest

from tests.planning.memory.shapes import LLAMA, MISTRAL
from thermoscope.catalogue.hardware import hardware
from thermoscope.planning.memory import device, search
from thermoscope.planning.memory.adapter import Adapter
from thermoscope.planning.memory.inference import Inference
from thermoscope.planning.memory.parallel import Parallel
from thermoscope.planning.memory.training import Training

A100, A10, T4 = hardware("A100-80GB"), hardware("A10"), hardware("T4")
LORA = Training(shape=LLAMA, method="lora", adapter=Adapter(rank=16), sequence=1024)
FULL = Training(shape=LLAMA, method="full", sequence=1024)


@pytest.mark.parametrize("limit", range(12))
@pytest.mark.parametrize("most", [1, 2, 7, 10])
def test_the_largest_by_trying_all(limit, most):
    expected = max((each for each in range(1, most + 1) if each <= limit), default=0)
    assert search.largest(lambda each: each <= limit, most) == expected


def test_the_largest_batch_fits_and_one_more_does_not():
    batch = search.largest_batch(LORA, A10)
    assert search.fits(replace(LORA, batch=batch), A10)
    assert not search.fits(replace(LORA, batch=batch + 1), A10)


def test_the_longest_sequence_stays_within_the_context():
    assert search.largest_sequence(LORA, A100) == LLAMA.context
    job = replace(LORA, shape=replace(MISTRAL, context=2**20), parallel=Parallel(context=2, sharding="fsdp2"))
    longest = search.largest_sequence(job, A10)
    assert longest % 2 == 0
    assert search.fits(replace(job, sequence=longest), A10)
    assert not search.fits(replace(job, sequence=longest + 2), A10)


def test_the_largest_rank_is_bounded_by_the_smallest_matrix():
    assert search.largest_rank(replace(LORA, shape=MISTRAL), A100) == 1024
    assert search.largest_rank(replace(LORA, batch=5), A10) < 4096


def test_how_many_devices_are_enough():
    count = search.fewest_devices(FULL, A10)
    assert count == 4
    enough, short = (
        replace(FULL, parallel=Parallel(data=each, sharding="fsdp2")) for each in (count, count - 1)
    )
    assert search.fits(enough, A10)
    assert not search.fits(short, A10)
    assert search.fewest_devices(replace(FULL, batch=4096), A10) is None


def test_running_spreads_over_heads():
    job = Inference(shape=MISTRAL, weights="fp32", sequence=1024)
    assert (
        search.fewest_devices(job, T4) == 4
    )  # 27 GiB would do with two and a little; three do not divide heads


def test_every_cure_is_a_job_that_needs_less():
    for job in (FULL, replace(LORA, batch=64), Inference(shape=LLAMA, batch=64)):
        before = device.needed(search.plan(job))
        found = search.cures(job, A10)
        assert found
        for cure in found:
            assert cure.needed == device.needed(search.plan(cure.change.job)) < before
            assert cure.fits == (cure.needed <= device.usable(A10))
