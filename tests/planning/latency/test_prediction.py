"""Times of a request from those of its passes, and the card's example."""

import math
import random
import subprocess
import sys

import pytest

from thermoscope.catalogue import lookup
from thermoscope.catalogue.hardware import hardware
from thermoscope.errors import InvalidRequest
from thermoscope.planning.latency.efficiency import Efficiency, fitted
from thermoscope.planning.latency.formats import FORMATS
from thermoscope.planning.latency.prediction import Ceilings, Request, band, predict, speculation


def request(model="llama-3.1-8b", gpu="T4", dtype="fp32", framework="serving", **more):
    return Request(
        shape=lookup.architecture(model), device=hardware(gpu), framework=framework, precision=dtype,
        format=FORMATS[dtype], cache=dtype, **more,
    )  # fmt: skip


def test_the_cards_example_is_near_what_two_calibrations_say():
    """512 × 2 × 6.98e9 operations at 4.3e12, and 100 × 30.0e9 bytes at 259e9: 13.3 s; a pure roofline says
    10.
    """
    found = predict(request(), Ceilings(fitted()))
    assert 12 < found.total < 15
    assert 1.4 < found.first < 2.0
    assert 0.110 < found.each < 0.135
    assert band(found.each, "decode", found.request.device, "serving", fitted()).low < 0.116


def test_a_total_is_the_first_token_and_the_others():
    found = predict(request(answer=11), Ceilings(fitted()))
    assert found.total == found.first + 10 * found.each
    assert predict(request(answer=1), Ceilings(fitted())).decode is None
    assert found.cost(3.6) == pytest.approx(found.total * 1e-3)
    assert found.throughput == 11 / found.total


def test_the_mean_step_is_that_of_the_steps():
    whole = predict(request(answer=41), Ceilings(fitted()))
    each = [predict(request(prompt=512 + at, answer=2), Ceilings(fitted())).each for at in range(40)]
    assert whole.each == pytest.approx(math.fsum(each) / 40, rel=1e-3)  # but for the bend of the maximum


def test_without_factors_it_is_no_faster_than_the_datasheet():
    found = predict(request("llama-2-7b", "A100-SXM4-80GB", "bf16"), Ceilings(Efficiency({})))
    weights = 2 * (6738415616 - 32000 * 4096)
    assert found.each > weights / 2039e9


def test_a_processor_that_launches_slowly_decides():
    eager = predict(request("smollm2-135m", "H100-SXM5-80GB", "bf16", "eager"), Ceilings(fitted()))
    graphs = predict(request("smollm2-135m", "H100-SXM5-80GB", "bf16", "serving"), Ceilings(fitted()))
    assert eager.decode.host > eager.decode.device
    assert eager.each > 3 * graphs.each


def test_speculation_is_the_simulated_gain():
    one = request("llama-3.1-70b", "H200-SXM", "bf16")
    gain = speculation(one, Ceilings(fitted()), acceptance=0.7, cost=0.1, guesses=3)
    rolls = random.Random(1)
    rounds, tokens = 200_000, 0
    for _ in range(rounds):
        tokens += 1
        for _ in range(3):
            if rolls.random() > 0.7:
                break
            tokens += 1
    free = tokens / rounds / (3 * 0.1 + 1)  # were a pass over four rows as cheap as one
    assert 0.9 * free < gain <= free * 1.01


def test_bands_of_what_was_never_measured_are_wider():
    known = band(1.0, "decode", hardware("RTX 4090"), "edge", fitted())
    strange = band(1.0, "decode", hardware("Apple M2 Max (38c)"), "edge", fitted())
    assert strange.high / strange.low > known.high / known.low
    assert "M2" in strange.reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": 0}, "batch: got 0"), ({"prompt": 0}, "prompt: got 0"), ({"answer": 0}, "answer: got 0"),
        ({"prompt": 131072}, "expected at most 131072 together, the context of llama-3.1-8b"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(given, message):
    with pytest.raises(InvalidRequest, match=message):
        request(**given)


def test_it_answers_without_torch():
    code = (
        "import sys; from thermoscope.planning.latency import prediction, card, machine, efficiency; "
        "efficiency.fitted(); assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
