import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thermoscope.errors import InvalidRequest
from thermoscope.laws import boltzmann

LOGITS = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1000, 1000))
# Multiples of 2^-20: a constant of the same grid is added without rounding, as the law has it.
GRID = st.integers(-1000 * 2**20, 1000 * 2**20).map(lambda n: n / 2**20)
TEMPERATURES = st.floats(-3, 3).map(lambda power: 10.0**power)

SMALLEST = 1e-30  # what the 60 digits of `exact` still give fully, as a difference of numbers of up to 10^6

repeatable = settings(derandomize=True, deadline=None)


def exact(logits, temperature):
    """The definitions as they are written, to 60 digits: log p of each, log Z, F, U, S and C."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**15, -(10**15)
        z, t = [Decimal(float(value)) for value in logits], Decimal(float(temperature))
        weights = [(value / t).exp() for value in z]
        partition = sum(weights)
        log_z = partition.ln()
        p = [weight / partition for weight in weights]
        energy = -sum(a * b for a, b in zip(p, z, strict=True))
        variance = sum(a * (-b - energy) ** 2 for a, b in zip(p, z, strict=True))
        log_p = [value / t - log_z for value in z]
        entropy = -sum(a * b for a, b in zip(p, log_p, strict=True))
        state = (log_z, -t * log_z, energy, entropy, variance / t**2)
        return [float(value) for value in log_p], boltzmann.Thermodynamics(*map(float, state))


def scale(state, temperature):
    """What a residual is relative to: max(1, |U|, TS)."""
    return max(1.0, abs(state.energy), temperature * state.entropy)


def large(seed):
    """As many logits as a model has, spread so that thousands of them count at T = 1."""
    return np.random.default_rng(seed).normal(scale=3, size=50_000)


@given(LOGITS, st.floats(1e-3, 1e3))
def test_weights_are_the_definition_up_to_their_sum(logits, temperature):
    weights = boltzmann.weights(logits, temperature)
    exact = [math.exp((z - max(logits)) / temperature) for z in logits.tolist()]
    np.testing.assert_allclose(weights, exact, rtol=1e-13)
    assert weights.max() == 1


@given(LOGITS)
def test_zero_temperature_keeps_the_first_of_the_best(logits):
    weights = boltzmann.weights(logits, 0.0)
    assert weights.sum() == 1
    assert weights.argmax() == logits.tolist().index(max(logits))


@given(LOGITS)
def test_infinite_temperature_is_uniform(logits):
    assert (boltzmann.weights(logits, math.inf) == 1).all()


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-3, 1.0, 1e3, 1.7e308, math.inf])
@given(arrays(np.float64, st.integers(1, 40), elements=st.one_of(st.floats(-1000, 1000), st.just(-math.inf))))
def test_a_token_that_was_cut_off_has_no_weight_at_any_temperature(temperature, logits):
    assume(np.isfinite(logits).any())
    finite = np.isfinite(logits)
    weights = boltzmann.weights(logits, temperature)
    assert weights[finite].tolist() == boltzmann.weights(logits[finite], temperature).tolist()
    assert not weights[~finite].any()


@given(LOGITS, st.floats(-500, 500))
def test_a_constant_moves_log_z_and_nothing_else(logits, constant):
    moved, still = boltzmann.state(logits + constant), boltzmann.state(logits)
    assert moved.log_z == pytest.approx(still.log_z + constant, abs=1e-9)
    assert moved.entropy == pytest.approx(still.entropy, abs=1e-9)
    moved, still = boltzmann.weights(logits + constant), boltzmann.weights(logits)
    np.testing.assert_allclose(moved, still, atol=1e-10)


@given(LOGITS)
def test_entropy_is_minus_the_mean_log_probability(logits):
    weights = boltzmann.weights(logits)
    p = weights / weights.sum()
    direct = -sum(x * math.log(x) for x in p.tolist() if x > 0)
    assert boltzmann.state(logits).entropy == pytest.approx(direct, abs=1e-9)
    assert boltzmann.state(logits).log_z == pytest.approx(max(logits) + math.log(weights.sum()), abs=1e-9)


def test_the_state_of_many_rows_is_that_of_each_in_numpy_and_torch():
    logits = np.random.default_rng(0).normal(scale=8, size=(3, 1000)).astype(np.float32)
    before = logits.copy()
    together, other = boltzmann.state(logits), boltzmann.state(torch.from_numpy(logits))
    for row, each in enumerate(map(boltzmann.state, logits)):
        for quantity in (0, 1):
            assert together[quantity][row] == pytest.approx(each[quantity], rel=1e-14)
            assert float(other[quantity][row]) == pytest.approx(each[quantity], rel=1e-14)
    assert together.log_z.dtype == np.float64
    assert (logits == before).all()


@repeatable
@given(LOGITS, TEMPERATURES)
@example(np.array([1000.0, 1000.0, -1000.0, 999.999]), 1e-3)
@example(np.array([-1000.0, 1000.0]), 1e3)
@example(np.array([0.0, -30.0]), 1.0)
def test_every_quantity_is_its_definition(logits, temperature):
    log_p, law = exact(logits, temperature)
    state = boltzmann.thermodynamics(logits, temperature)
    np.testing.assert_allclose(
        boltzmann.log_probabilities(logits, temperature), log_p, rtol=1e-14, atol=SMALLEST
    )
    assert state.log_z == pytest.approx(law.log_z, rel=1e-14, abs=1e-13)
    assert state.free_energy == pytest.approx(law.free_energy, rel=1e-14, abs=1e-13)
    assert state.energy == pytest.approx(law.energy, rel=1e-14, abs=1e-13)
    # Relative: a frozen distribution's entropy is small, and right to the last digits all the same.
    assert state.entropy == pytest.approx(law.entropy, rel=1e-12, abs=SMALLEST)
    assert state.heat_capacity == pytest.approx(law.heat_capacity, rel=1e-12, abs=SMALLEST)
    assert state.heat_capacity >= 0


def identities(logits, temperature):
    """Residuals of the identities between what the functions give, relative to max(1, |U|, TS)."""
    state = boltzmann.thermodynamics(logits, temperature)
    log_p, p = (f(logits, temperature) for f in (boltzmann.log_probabilities, boltzmann.probabilities))
    some = p > 0
    return {
        "sum P = 1": abs(math.fsum(p) - 1),
        "F = U - TS": abs(state.free_energy - state.energy + temperature * state.entropy),
        "F = -T log Z": abs(state.free_energy + temperature * state.log_z),
        "E - F = -T log p": np.abs(-logits - state.free_energy + temperature * log_p).max(),
        "S = -sum p log p": abs(state.entropy + math.fsum(p[some] * log_p[some])),
        "U = sum p E": abs(state.energy + math.fsum(p * logits)),
        "U - F = <E - F>": abs(
            state.energy - state.free_energy + temperature * math.fsum(p[some] * log_p[some])
        ),
    }, scale(state, temperature)


@repeatable
@given(LOGITS, TEMPERATURES)
def test_the_identities_hold(logits, temperature):
    residuals, unit = identities(logits, temperature)
    assert max(residuals.values()) <= 1e-10 * unit, residuals


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 0.7, 1.0, 3.0, 1e3])
def test_the_identities_hold_for_a_whole_vocabulary(temperature):
    for seed in range(3):
        residuals, unit = identities(large(seed), temperature)
        assert max(residuals.values()) <= 1e-10 * unit, residuals


def derivatives(logits, temperature):
    """d log Z / dβ and T dS/dT, by autograd."""
    z = torch.from_numpy(logits)
    best = z.max()
    beta = torch.tensor(1 / temperature, dtype=torch.float64, requires_grad=True)
    log_z = beta * best + torch.logsumexp(beta * (z - best), 0)
    (by_beta,) = torch.autograd.grad(log_z, beta)
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    log_p = torch.log_softmax((z - best) / t, 0)
    entropy = -(log_p.exp() * log_p).sum()
    (by_temperature,) = torch.autograd.grad(entropy, t)
    return float(by_beta), temperature * float(by_temperature)


@repeatable
@given(LOGITS, TEMPERATURES)
def test_the_derivatives_are_the_averages(logits, temperature):
    state = boltzmann.thermodynamics(logits, temperature)
    by_beta, by_log_temperature = derivatives(logits, temperature)
    assert abs(by_beta + state.energy) <= 1e-10 * scale(state, temperature)
    assert abs(by_log_temperature - state.heat_capacity) <= 1e-10 * scale(state, temperature)


@pytest.mark.parametrize("temperature", [1e-3, 0.1, 0.7, 1.0, 3.0, 1e3])
def test_the_derivatives_and_variance_of_a_whole_vocabulary(temperature):
    logits = large(4)
    state = boltzmann.thermodynamics(logits, temperature)
    by_beta, by_log_temperature = derivatives(logits, temperature)
    assert abs(by_beta + state.energy) <= 1e-10 * scale(state, temperature)
    assert abs(by_log_temperature - state.heat_capacity) <= 1e-10 * scale(state, temperature)
    energies = -logits.astype(np.longdouble)
    p = np.exp((energies.min() - energies) / temperature)
    p /= p.sum()
    variance = (p * (energies - (p * energies).sum()) ** 2).sum()
    assert state.heat_capacity == pytest.approx(float(variance / temperature**2), rel=1e-11)


@repeatable
@given(st.lists(GRID, min_size=1, max_size=50).map(np.array), GRID, TEMPERATURES)
def test_a_constant_changes_no_headline_value_and_moves_the_raw_ones_as_stated(logits, constant, temperature):
    still = boltzmann.thermodynamics(logits, temperature)
    moved = boltzmann.thermodynamics(logits + constant, temperature)
    assert moved.entropy == still.entropy
    assert moved.heat_capacity == still.heat_capacity
    log_p = boltzmann.log_probabilities(logits, temperature)
    assert (boltzmann.log_probabilities(logits + constant, temperature) == log_p).all()
    rounding = 1e-12 * scale(still, temperature) + 1e-12 * abs(constant)
    gaps = [state.energy - state.free_energy for state in (still, moved)]
    assert abs(gaps[1] - gaps[0]) <= rounding
    assert abs(moved.energy - still.energy + constant) <= rounding
    assert abs(moved.free_energy - still.free_energy + constant) <= rounding
    assert abs(moved.log_z - still.log_z - constant / temperature) <= rounding / temperature


TIED = st.lists(st.integers(-20, 20).map(lambda n: n / 2), min_size=1, max_size=50).map(np.array)


@repeatable
@given(TIED)
def test_the_cold_limit(logits):
    best = logits.max()
    ties = math.log((logits == best).sum())
    for temperature in (0.0, 1e-320, 1e-6):
        state = boltzmann.thermodynamics(logits, temperature)
        assert state.entropy == pytest.approx(ties, rel=1e-15)
        assert (state.energy, state.heat_capacity) == (-best, 0.0)
        assert state.free_energy == pytest.approx(-best, abs=5e-6)  # T log Z has T log #argmax left
    assert boltzmann.thermodynamics(logits, 0.0).free_energy == -best
    p = boltzmann.probabilities(logits, 0.0)
    assert (p.max(), p.sum(), p.argmax()) == (1.0, 1.0, logits.tolist().index(best))


@repeatable
@given(TIED)
def test_the_hot_limit(logits):
    state = boltzmann.thermodynamics(logits, math.inf)
    near = boltzmann.thermodynamics(logits, 1e12)
    assert state.entropy == pytest.approx(math.log(len(logits)), rel=1e-15)
    assert near.entropy == pytest.approx(state.entropy, rel=1e-13)
    assert near.log_z == pytest.approx(state.log_z, abs=1e-10)
    assert state.energy == pytest.approx(-logits.mean(), abs=1e-13)
    assert near.energy == pytest.approx(state.energy, abs=1e-9)
    assert (state.heat_capacity, near.heat_capacity) == (0.0, pytest.approx(0.0, abs=1e-20))
    assert state.free_energy == (-math.inf if len(logits) > 1 else -logits[0])
    np.testing.assert_allclose(boltzmann.probabilities(logits, math.inf), 1 / len(logits), rtol=1e-14)


@pytest.mark.parametrize(("best", "limit"), [(3.0, math.inf), (0.0, math.log(2)), (-3.0, -math.inf)])
def test_log_z_at_zero_goes_where_the_best_logit_points(best, limit):
    assert boltzmann.thermodynamics(np.array([best, best - 1, best]), 0.0).log_z == pytest.approx(limit)


@repeatable
@given(LOGITS, st.sampled_from([0.0, 1e-3, 0.7, 40.0, math.inf]), st.randoms(use_true_random=False))
def test_a_token_that_was_cut_off_is_no_state(logits, temperature, random):
    gapped = logits.tolist()
    for _ in range(3):
        gapped.insert(random.randrange(len(gapped) + 1), -math.inf)
    gapped = np.array(gapped)
    kept = np.isfinite(gapped)
    p = boltzmann.log_probabilities(gapped, temperature)
    np.testing.assert_allclose(p[kept], boltzmann.log_probabilities(logits, temperature), rtol=1e-13)
    assert (p[~kept] == -math.inf).all()
    states = (boltzmann.thermodynamics(row, temperature) for row in (gapped, logits))
    np.testing.assert_allclose(*states, rtol=1e-12, atol=1e-12)


def test_rows_and_curves_are_their_single_points():
    logits = np.random.default_rng(1).normal(scale=5, size=(2, 3, 100)).astype(np.float32)
    before = logits.copy()
    temperatures = [0.0, 1e-3, 0.5, 1.0, 40.0, math.inf]
    curve = boltzmann.curve(logits, temperatures)
    assert all(values.shape == (2, 3, 6) for values in curve)
    for index in np.ndindex(2, 3):
        for i, temperature in enumerate(temperatures):
            one = boltzmann.thermodynamics(logits[index], temperature)
            np.testing.assert_allclose([values[(*index, i)] for values in curve], one, rtol=1e-13, atol=1e-15)
            row = boltzmann.log_probabilities(logits, temperature)[index]
            np.testing.assert_allclose(
                row, boltzmann.log_probabilities(logits[index], temperature), rtol=1e-13
            )
    assert (logits == before).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-6, 1e300])
def test_extreme_temperatures_and_logits_give_numbers(temperature):
    logits = np.array([1e308, -1e308, 1e308, -math.inf])
    assert np.isfinite(boltzmann.probabilities(logits, temperature)).all()
    assert boltzmann.thermodynamics(logits, temperature).entropy >= math.log(2) * (1 - 1e-15)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([], r"logits: got shape \(0,\), expected at least one logit a row."),
        (
            [[1.0, 2.0], [math.nan, 0.0]],
            "logits: got NaN, expected finite numbers, and -inf only beside them.",
        ),
        ([math.inf, 0.0], r"logits: got \+inf, expected"),
        ([[0.0, 1.0], [-math.inf, -math.inf]], "logits: got a row of nothing but -inf, expected"),
    ],
)
def test_what_is_no_distribution_is_refused(logits, message):
    for law in (boltzmann.probabilities, boltzmann.log_probabilities, boltzmann.thermodynamics):
        with pytest.raises(InvalidRequest, match=message) as refused:
            law(np.array(logits), 1.0)
        assert refused.value.param == "logits"


@pytest.mark.parametrize("temperature", [-0.1, -math.inf, math.nan])
def test_what_is_no_temperature_is_refused(temperature):
    laws = (boltzmann.probabilities, boltzmann.thermodynamics, lambda z, t: boltzmann.curve(z, [1.0, t]))
    for law in laws:
        with pytest.raises(InvalidRequest, match=r"temperature: got .*, expected a number, 0 to infinity."):
            law(np.zeros(3), temperature)


def test_a_curve_without_a_point_is_refused():
    with pytest.raises(InvalidRequest, match=r"temperatures: got none, expected at least one."):
        boltzmann.curve(np.zeros(3), [])
