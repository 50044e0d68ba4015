"""The kernel's cuts against the laws', which sort and sum in numpy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thermoscope.laws import boltzmann, dynamic_temperature
from thermoscope.laws import truncation as laws
from thermoscope.models import distribution, truncation
from thermoscope.models.kernels import build

pytestmark = pytest.mark.usefixtures("kernel")

VOCAB = 3001  # more than the kernel is called for, and no whole number of lanes


def rows(seed, ties=False, cut=False, vocab=VOCAB):
    generator = np.random.default_rng(seed)
    z = generator.normal(scale=generator.uniform(0.1, 6), size=vocab)
    if ties:
        z = np.round(z * 2) / 2
    if cut:
        z[generator.random(vocab) < 0.4] = -np.inf
    z[generator.integers(vocab)] = z.max() + generator.uniform(0, 8)
    return z


cases = given(
    seed=st.integers(0, 10_000),
    p=st.sampled_from([0.0, 1e-9, 0.1, 0.5, 0.9, 0.95, 0.999, 1 - 1e-9, 1.0]),
    temperature=st.sampled_from([0.0, 1e-3, 0.05, 0.7, 1.0, 1.5, 30.0, 1e3, math.inf]),
    ties=st.booleans(),
    cut=st.booleans(),
    beyond=st.booleans(),
)


@cases
@settings(max_examples=150, deadline=None)
def test_the_nucleus_is_the_law_s(seed, p, temperature, ties, cut, beyond):
    z = rows(seed, ties, cut)
    law = laws.nucleus(z, p, temperature, beyond=beyond)
    ours = truncation.nucleus(z, p, temperature, beyond=beyond)
    assert ours.members.tolist() == law.members.tolist()
    assert ours.removed == pytest.approx(law.removed, abs=1e-12)
    given_mass = truncation.nucleus(z, p, temperature, beyond=beyond, mass=law.mass)
    assert given_mass.members.tolist() == law.members.tolist()


@cases
@settings(max_examples=150, deadline=None)
def test_the_typical_set_is_the_law_s(seed, p, temperature, ties, cut, beyond):
    z = rows(seed, ties, cut)
    for rule in ("lower", "all"):
        law = laws.typical(z, p, temperature, ties=rule, beyond=beyond)
        ours = truncation.typical(z, p, temperature, ties=rule, beyond=beyond)
        if ours.members.tolist() == law.members.tolist():
            continue
        # The mean that distances are taken from is a sum of thousands, in another order in the two: tokens
        # at the edge may change places where they are equally far to its last digits.
        distance = np.abs(boltzmann.exponents_of(z, temperature) - _mean(z, temperature))
        changed = np.setxor1d(ours.members, law.members)
        edge = distance[law.members].max()
        assert distance[changed] == pytest.approx(np.full(len(changed), edge), rel=1e-9)


def _mean(z, temperature):
    p, x = boltzmann.probabilities(z, temperature), boltzmann.exponents_of(z, temperature)
    return math.fsum(p[p > 0] * x[p > 0])


def test_a_mass_that_is_not_reached_keeps_all():
    z = rows(3)
    assert truncation.nucleus(z, 0.9, mass=1e6).members.tolist() == list(range(VOCAB))
    z[::2] = -np.inf
    z[1] = 9
    assert truncation.nucleus(z, 0.9, mass=1e6).members.tolist() == list(range(1, VOCAB, 2))


def test_what_is_too_far_away_for_a_number_is_left_out():
    """(z − max z) / T is −∞ there, and no reach that is doubled gets to it."""
    z = rows(9)
    z[::3] = -1e308
    near = np.flatnonzero(z > -1e308)
    weighty = near[boltzmann.weights(z, 1e-2)[near] > 0]
    kept = truncation.typical(z, 1 - 1e-15, 1e-2, beyond=True).members
    assert set(weighty) <= set(kept) <= set(near)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("cut", [False, True])
def test_mass_and_entropy_are_the_laws_on_any_number_of_threads(threads, cut, monkeypatch):
    monkeypatch.setattr(build.loaded(), "threads", threads)
    monkeypatch.setattr(build.loaded(), "ALONE", 0)  # or one thread would look through so few
    z = rows(7, cut=cut, vocab=49_152)
    for temperature in (0.05, 0.7, 1.0, 1.5, 1e3, math.inf):
        expected = math.fsum(boltzmann.weights(z, temperature))
        assert truncation.mass(z, temperature, float(z.max())) == pytest.approx(expected, rel=1e-13)
    assert truncation.entropy(z) == pytest.approx(dynamic_temperature.entropy(z), abs=1e-11)
    one = truncation.mass(z, 0.7, float(z.max()))
    monkeypatch.setattr(build.loaded(), "threads", 1)
    assert truncation.mass(z, 0.7, float(z.max())) == one


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("cut", [False, True])
def test_a_draw_among_some_is_the_draw_where_all_others_are_cut_off(temperature, cut, monkeypatch):
    z = rows(11, cut=cut)
    generator = np.random.default_rng(5)
    ids = np.sort(generator.choice(VOCAB, size=2000, replace=False))
    ids = ids[np.isfinite(z[ids])] if temperature == math.inf else ids
    greatest = float(z[ids].max())
    for key in range(60):
        some = distribution.draw(z[ids], greatest, temperature, key, ids)
        with monkeypatch.context() as patch:
            patch.setattr(build, "available", lambda: False)
            assert distribution.draw(z[ids], greatest, temperature, key, ids) == some


@pytest.mark.parametrize("kind", ["float32", "every second"])
def test_logits_that_lie_otherwise_in_memory_are_the_same_logits(kind):
    z = rows(4).astype(np.float32)
    given = z if kind == "float32" else np.repeat(z.astype(np.float64), 2)[::2]
    z, greatest, key = z.astype(np.float64), float(z.max()), 8
    ids = np.arange(VOCAB, dtype=np.int32)
    assert truncation.mass(given, 0.7, greatest) == truncation.mass(z, 0.7, greatest)
    assert truncation.nucleus(given, 0.9).members.tolist() == laws.nucleus(z, 0.9).members.tolist()
    assert truncation.typical(given, 0.9).members.tolist() == laws.typical(z, 0.9).members.tolist()
    drawn = {distribution.draw(given, greatest, 1.0, key, which) for which in (None, ids, np.arange(VOCAB))}
    assert drawn == {distribution.draw(z, greatest, 1.0, key)}


def test_without_the_kernel_the_laws_answer(monkeypatch):
    monkeypatch.setattr(build, "available", lambda: False)
    z = rows(2)
    assert truncation.nucleus(z, 0.9).members.tolist() == laws.nucleus(z, 0.9).members.tolist()
    assert truncation.mass(z, 0.7, float(z.max())) == boltzmann.weights(z, 0.7).sum()
    assert truncation.entropy(z) == dynamic_temperature.entropy(z)
