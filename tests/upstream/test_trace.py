import math

import numpy as np
import pytest

from thermoscope.laws import boltzmann
from thermoscope.upstream.logprobs import Choice, Shown
from thermoscope.upstream.trace import Sight, Step, Trace

Z = np.random.default_rng(3).normal(scale=2, size=50)


def step(sight, shown, chosen=2, known=8):
    """The step of a server that shows these log-probabilities."""
    order = np.argsort(-shown)
    best = tuple(Shown(str(token), None, float(shown[token])) for token in order[:known])
    return Step(Choice(best[chosen], best, whole=True), sight), int(order[chosen])


def holds(bounds, value):
    return bounds[0] - 1e-9 <= value <= bounds[1] + 1e-9


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, None])
def test_raw_logprobs_are_values_and_the_rest_is_bounds(temperature):
    raw = boltzmann.log_probabilities(Z)
    seen, chosen = step(Sight("raw", temperature, len(Z)), raw)
    plain = seen.to_dict()
    assert plain["logprob"] == raw[chosen]
    assert plain["sampler_logprob"] is None
    assert holds(plain["entropy"], float(boltzmann.thermodynamics(Z).entropy))
    assert holds(plain["unseen_mass"], 1 - np.exp(np.sort(raw)[-8:]).sum())


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_tempered_logprobs_bound_the_models_own(temperature):
    raw, shown = boltzmann.log_probabilities(Z), boltzmann.log_probabilities(Z, temperature)
    seen, chosen = step(Sight("tempered", temperature, len(Z)), shown)
    plain = seen.to_dict()
    assert plain["sampler_logprob"] == shown[chosen]
    assert holds(plain["logprob"], raw[chosen])
    assert holds(plain["entropy"], float(boltzmann.thermodynamics(Z).entropy))
    order = np.argsort(-Z)
    for token, other in zip(order, plain["alternatives"], strict=False):
        assert holds(other["logprob"], raw[token])


@pytest.mark.parametrize(
    "sight", [Sight("tempered", None, 50), Sight("tempered", 0.0, 50), Sight("unknown", 0.7, 50)]
)
def test_nothing_is_said_where_nothing_is_known(sight):
    plain = step(sight, boltzmann.log_probabilities(Z, 0.7))[0].to_dict()
    assert plain["logprob"] is plain["entropy"] is plain["unseen_mass"] is None


def test_an_unknown_vocabulary_has_no_greatest_entropy():
    plain = step(Sight("raw", 1.0, None), boltzmann.log_probabilities(Z))[0].to_dict()
    assert plain["entropy"][1] == "inf"


def test_a_trace_is_plain():
    one = step(Sight("raw", 1.0, 50), boltzmann.log_probabilities(Z))[0]
    trace = Trace("m", "http://toy/v1", one.sight, {"temperature": 1}, text="x", steps=[one])
    plain = trace.to_dict()
    assert plain["steps"] == [one.to_dict()]
    assert plain["logprobs"] == "raw"
    assert math.isfinite(plain["steps"][0]["logprob"])
