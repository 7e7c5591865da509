"""IEnKS and EnKF-N: closed forms, brute-force minimisers, and DAPPER's answers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from problems import KINDS, make_problem
from test_dapper import LORENZ96, installed
from test_dapper import run as run_dapper

from masf.arrays import Array, Stream, to_numpy
from masf.ensembles.finite_size import prior_coefficients
from masf.ensembles.transform import ensemble_transform, weighted
from masf.filters.base import Filter, Setup
from masf.filters.ienks import GaussNewton, IEnKS, Step, Window
from masf.filters.kalman import Gaussian, kalman_update
from masf.filters.registry import filter_class
from masf.observations.base import Observation
from masf.observations.mask import Mask
from masf.stages.assimilate import run_filter
from masf.stages.simulate import simulate
from masf.systems.base import System
from masf.systems.registry import make_system

GAUSSIAN = {"certainty": None, "greatest_misfit": None}
"""No finite-size prior, and every window is kept."""
FORMS = ["transform", "bundle", "mda"]


def make_filter(
    name: str, observation: Observation, system: System, **parameters: object
) -> Filter:
    cls, mean = filter_class(name), np.zeros(observation.dimension)
    return cls(
        cls.Parameters(**parameters),
        Setup(system, observation, mean, 1.0, Stream(0, f"test {name}")),
    )


def lorenz96(d: int) -> System:
    return make_system("lorenz96", {"dt": 0.05, "dimension": d, "forcing": 8.0})


def on_attractor(system: System, n: int, spread: float, seed: int = 0) -> np.ndarray:
    """n states (n, d) about one that the model has run to."""
    rng, stream = np.random.default_rng(seed), Stream(0, "test")
    state = 8.0 + rng.standard_normal(system.dimension)
    for _ in range(200):
        state = system.step(state, stream)
    return state + spread * rng.standard_normal((n, system.dimension))


def measurements(system: System, observation: Observation, count: int, gap: int) -> np.ndarray:
    """Of a truth (count, m) ``gap`` steps apart, beside the ensembles of ``on_attractor``."""
    state, ys = on_attractor(system, 1, 0.0), []
    for _ in range(count):
        for _ in range(gap):
            state = system.step(state, Stream(0, "test"))
        ys.append(observation.apply(state)[0] + 0.2)
    return np.array(ys)


def cycles(filter_: Filter, ensemble: Array, measurements: Array, gap: int) -> list[Array]:
    """The analyses (N, d) of measurements (cycles, m), ``gap`` steps apart."""
    state, analyses = filter_.start(ensemble), []
    for y in measurements:
        for _ in range(gap):
            state = filter_.forecast(state)
        state = filter_.project(filter_.analyse(state, y))
        analyses.append(state)
    return analyses


# --- the transform


@pytest.mark.parametrize("m", [4, 30], ids=["fewer measurements than members", "more"])
@pytest.mark.parametrize("certainty", [None, 1.0])
def test_transform_is_the_matrix_functions_by_definition(m, certainty):
    rng, n = np.random.default_rng(0), 12
    s, delta, x = (rng.standard_normal(shape) for shape in ((3, n, m), (3, m), (3, n, 5)))
    found = ensemble_transform(s, delta, certainty)
    for k in range(3):
        precision = found.precision[k] * np.eye(n) + s[k] @ s[k].T
        values, vectors = np.linalg.eigh(precision)
        t = vectors / np.sqrt(values) @ vectors.T
        np.testing.assert_allclose(found.transformed(x)[k], t @ x[k], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(t @ found.undone(x)[k], x[k], rtol=1e-9, atol=1e-11)
        v = np.linalg.solve(precision, s[k] @ delta[k])
        np.testing.assert_allclose(found.weights[k], v, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(
            weighted(found.weights, x)[k], v @ x[k] / math.sqrt(n - 1), rtol=1e-9, atol=1e-11
        )


# --- the finite-size prior


def finite_size_problem(n: int, m: int, innovation: float, seed: int):
    """Whitened anomalies over sqrt(n - 1) (n, m), and an innovation (m,) of that size in units of
    what the ensemble expects.
    """
    rng = np.random.default_rng(seed)
    s = rng.standard_normal((n, m))
    s = (s - s.mean(axis=0)) * np.linspace(0.2, 3, m) / math.sqrt(n - 1)
    delta = rng.multivariate_normal(np.zeros(m), np.eye(m) + s.T @ s)
    return s, innovation * delta


def coefficients(s: np.ndarray, certainty: float) -> tuple[float, float]:
    """e and c of the prior for S (n, m)."""
    values = np.clip(np.linalg.eigvalsh(s @ s.T), 0, None)
    e, c = prior_coefficients(values, len(s), certainty)
    return float(e), float(c)


@pytest.mark.parametrize("certainty", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("innovation", [0.0, 0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize(("n", "m"), [(5, 3), (5, 12), (20, 6), (40, 40)])
def test_precision_is_the_lowest_minimum_of_the_dual_and_of_the_primal(n, m, innovation, certainty):
    s, delta = finite_size_problem(n, m, innovation, seed=n + m)
    found = ensemble_transform(s, delta, certainty)
    zeta = float(found.precision)
    e, c = map(
        float, prior_coefficients(np.clip(np.linalg.eigvalsh(s @ s.T), 0, None), n, certainty)
    )

    def dual(z: float) -> float:
        return float(
            delta @ np.linalg.solve(np.eye(m) + s.T @ s / z, delta)
            + (n - 1) * (e * z - c * math.log(z))
        )

    def primal(v: np.ndarray) -> float:
        return float(np.sum((delta - v @ s) ** 2) + (n - 1) * c * math.log(e + v @ v / (n - 1)))

    # Each decade of zeta, so that no minimum is missed.
    bounds = c / e * np.logspace(-4, 0, 400)
    start = min(bounds, key=dual)
    brute = scipy.optimize.minimize_scalar(
        dual,
        bounds=(start / 1.05, min(start * 1.05, c / e)),
        method="bounded",
        options={"xatol": 1e-12},
    )
    assert dual(zeta) <= brute.fun + 1e-9 * (1 + abs(brute.fun))
    assert zeta == pytest.approx(brute.x, rel=1e-5)
    # The weights are where the primal function is least, and its curvature gives that precision.
    starts = [np.zeros(n), found.weights, 3 * found.weights, np.linalg.pinv(s).T @ delta]
    lowest = min(
        (
            scipy.optimize.minimize(primal, at, method="BFGS", options={"gtol": 1e-9})
            for at in starts
        ),
        key=lambda result: result.fun,
    )
    assert primal(found.weights) <= lowest.fun + 1e-9 * (1 + abs(lowest.fun))
    np.testing.assert_allclose(found.weights, lowest.x, atol=1e-4 * (1 + np.abs(lowest.x).max()))
    assert zeta == pytest.approx(c / (e + lowest.x @ lowest.x / (n - 1)), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_enkf_n_is_the_kalman_update_of_the_inflated_forecast(kind):
    problem, system = make_problem(kind, 8), make_system("linear_gaussian", {"dimension": 8})
    ensemble = problem.prior_draws(10, seed=1)
    filter_ = make_filter("enkf_n", problem.observation, system)
    analysis = filter_.analyse(ensemble, problem.y)
    inflation = filter_.diagnostics()["prior_inflation"]
    assert abs(inflation - 1) > 0.01
    prior = Gaussian(ensemble.mean(axis=0), inflation**2 * np.cov(ensemble.T))
    posterior = kalman_update(
        prior, problem.y, problem.observation.matrix, problem.observation.noise.covariance
    )
    np.testing.assert_allclose(analysis.mean(axis=0), posterior.mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.cov(analysis.T), posterior.covariance, rtol=1e-9, atol=1e-11)


def test_a_certain_prior_does_not_hear_the_measurement():
    s, delta = finite_size_problem(40, 10, 1.0, seed=0)
    certain = ensemble_transform(s, delta, 1000.0)
    e, c = coefficients(s, 1.0)
    assert float(certain.precision) == pytest.approx(c / e, rel=1e-3)


# --- IEnKS on a linear model


@pytest.mark.parametrize("kind", ["mask", "dense"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lag", [1, 2, 4])
def test_ienks_of_a_linear_model_is_the_kalman_filter_at_any_lag(kind, form, lag):
    d, gap, observation = 5, 3, make_problem(kind, 5).observation
    system = make_system(
        "linear_gaussian", {"dimension": d, "model_noise": 0.0, "persistence": 1.0}
    )
    rng = np.random.default_rng(1)
    ensemble = rng.standard_normal((9, d))
    ys = rng.standard_normal((5, observation.size))
    found = cycles(
        make_filter("ienks", observation, system, lag=lag, form=form, **GAUSSIAN),
        ensemble,
        ys,
        gap,
    )
    by_etkf = cycles(make_filter("etkf", observation, system), ensemble, ys, gap)
    matrix = np.linalg.matrix_power(system.matrix, gap)
    h, r = observation.matrix, observation.noise.covariance
    state = Gaussian(ensemble.mean(axis=0), np.cov(ensemble.T))
    for k, y in enumerate(ys):
        prior = Gaussian(matrix @ state.mean, matrix @ state.covariance @ matrix.T)
        state = kalman_update(prior, y, h, r)
        np.testing.assert_allclose(found[k].mean(axis=0), state.mean, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(np.cov(found[k].T), state.covariance, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(found[k], by_etkf[k], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_inflation_and_rotation_are_undone_in_the_derivative(form):
    """Were they not, a second step would not find the first one's answer again."""
    observation = make_problem("mask", 6).observation
    system = make_system("linear_gaussian", {"dimension": 6, "model_noise": 0.0})
    rng = np.random.default_rng(0)
    ensemble, y = rng.standard_normal((9, 6)), rng.standard_normal((1, observation.size))
    shared = {"inflation": 1.3, "rotation": True}
    (found,) = cycles(
        make_filter(
            "ienks",
            observation,
            system,
            form=form,
            tolerance=0.0,
            iterations=4,
            **shared,
            **GAUSSIAN,
        ),
        ensemble,
        y,
        2,
    )
    (expected,) = cycles(make_filter("etkf", observation, system, inflation=1.3), ensemble, y, 2)
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(axis=0), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(np.cov(found.T), np.cov(expected.T), rtol=1e-7, atol=1e-8)
    assert np.max(np.abs(found - expected)) > 0.1


@pytest.mark.parametrize("iterations", [1, 3, 20])
def test_mda_of_a_linear_model_has_the_finite_size_prior_of_enkf_n(iterations):
    observation = make_problem("mask", 6).observation
    system = make_system("linear_gaussian", {"dimension": 6, "model_noise": 0.0})
    rng = np.random.default_rng(0)
    ensemble, y = rng.standard_normal((9, 6)), 3 * rng.standard_normal((1, observation.size))
    smoother = make_filter(
        "ienks", observation, system, form="mda", iterations=iterations, greatest_misfit=None
    )
    (found,) = cycles(smoother, ensemble, y, 2)
    enkf_n = make_filter("enkf_n", observation, system)
    (expected,) = cycles(enkf_n, ensemble, y, 2)
    assert abs(enkf_n.diagnostics()["prior_inflation"] - 1) > 0.05
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)


# --- IEnKS on a nonlinear model


@pytest.mark.parametrize("certainty", [None, 1.0])
def test_bundle_finds_the_minimum_of_the_cost_function(certainty):
    """J(v) of h(mean + v X / sqrt(N - 1)), minimised by another's method."""
    d, n, gap, system = 8, 6, 8, lorenz96(8)
    observation = Mask(d, np.arange(0, d, 2), noise=0.4)
    past = on_attractor(system, n, 0.5)
    mean, anomalies = past.mean(axis=0), past - past.mean(axis=0)

    def run(x: np.ndarray) -> np.ndarray:
        for _ in range(gap):
            x = system.step(x, Stream(0, "test"))
        return x

    y = observation.apply(run(mean + 0.7 * anomalies[0] - 0.4 * anomalies[1]))
    smoother = make_filter(
        "ienks",
        observation,
        system,
        form="bundle",
        epsilon=1e-5,
        tolerance=0.0,
        iterations=40,
        certainty=certainty,
        localization_radius=None,
    )
    assert isinstance(smoother, IEnKS)
    state = smoother.start(past)
    for _ in range(gap):
        state = smoother.forecast(state)
    window = GaussNewton(smoother, y, None).search(past, state)
    assert window is not None

    def misfits(v: np.ndarray) -> np.ndarray:
        return (y - observation.apply(run(mean + v @ anomalies / math.sqrt(n - 1)))) / 0.4

    def cost(v: np.ndarray) -> float:
        squares = float(np.sum(misfits(v) ** 2))
        if certainty is None:
            return squares + float(v @ v)
        return squares + (n - 1) * c * math.log(e + float(v @ v) / (n - 1))

    # The coefficients of the prior depend on the derivative at the minimum.
    e = c = 1.0
    best = np.zeros(n)
    for _ in range(1 if certainty is None else 8):
        if certainty is not None:
            steps = 1e-5 * np.eye(n)
            s = np.array([misfits(best - step) - misfits(best + step) for step in steps]) / 2e-5
            e, c = map(
                float,
                prior_coefficients(np.clip(np.linalg.eigvalsh(s @ s.T), 0, None), n, certainty),
            )
        best = scipy.optimize.minimize(cost, best, method="BFGS", options={"gtol": 1e-7}).x
    expected = mean + best @ anomalies / math.sqrt(n - 1)
    assert np.max(np.abs(expected - mean)) > 0.1
    np.testing.assert_allclose(window.start.mean(axis=0), expected, atol=2e-4)


def test_a_localised_smoother_with_a_huge_radius_is_the_global_one():
    d, system = 12, lorenz96(12)
    observation, ensemble = Mask(d, np.arange(0, d, 2), noise=0.7), on_attractor(system, 8, 0.4)
    ys = measurements(system, observation, 3, 4)
    shared = {"lag": 2, "greatest_misfit": None, "inflation": 1.02}
    everywhere = cycles(make_filter("ienks", observation, system, **shared), ensemble, ys, 4)
    for block in (1, 3):
        by_blocks = make_filter(
            "ienks", observation, system, localization_radius=1e8, block=block, **shared
        )
        assert by_blocks.domains.count == d // block
        for found, expected in zip(cycles(by_blocks, ensemble, ys, 4), everywhere, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    near = make_filter("ienks", observation, system, localization_radius=2.0, **shared)
    assert np.max(np.abs(cycles(near, ensemble, ys, 4)[-1] - everywhere[-1])) > 0.01


@pytest.mark.parametrize(
    "parameters",
    [
        {"lag": 2},
        {"form": "bundle"},
        {"form": "mda"},
        {"localization_radius": 3.0, "block": 2, "lag": 2},
    ],
    ids=["global", "bundle", "mda", "local"],
)
def test_torch_gives_what_numpy_gives(parameters):
    d, system = 12, lorenz96(12)
    observation, ensemble = Mask(d, np.arange(0, d, 2), noise=0.7), on_attractor(system, 8, 0.4)
    ys = measurements(system, observation, 3, 4)
    expected = cycles(make_filter("ienks", observation, system, **parameters), ensemble, ys, 4)
    cls = filter_class("ienks")
    mean = torch.zeros(d, dtype=torch.float64)
    in_torch = cls(
        cls.Parameters(**parameters), Setup(system, observation, mean, 1.0, Stream(0, "test"))
    )
    found = cycles(in_torch, torch.as_tensor(ensemble), torch.as_tensor(ys), 4)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, torch.Tensor)
        np.testing.assert_allclose(to_numpy(one), other, rtol=1e-7, atol=1e-7)


def test_a_lost_window_is_left_for_the_analysis_of_the_forecast():
    """No run of the model comes near a measurement that it has no state for."""
    d, system = 8, lorenz96(8)
    observation, ensemble = Mask(d, np.arange(d), noise=0.1), on_attractor(system, 8, 0.4)
    ys = np.stack([np.full(d, -30.0), np.full(d, 2.0)])
    smoother = make_filter("ienks", observation, system, lag=2)
    first = cycles(smoother, ensemble, ys[:1], 4)[0]
    assert smoother.diagnostics()["new_window"] == 1
    by_enkf_n = cycles(make_filter("enkf_n", observation, system), ensemble, ys[:1], 4)[0]
    np.testing.assert_allclose(first, by_enkf_n, rtol=1e-9, atol=1e-9)
    # And the window begins anew from there.
    state = first
    for _ in range(4):
        state = smoother.forecast(state)
    found = smoother.analyse(state, ys[1])
    other = make_filter("ienks", observation, system, lag=2)
    np.testing.assert_array_equal(found, cycles(other, first, ys[1:], 4)[0])


def test_steps_after_which_the_model_overflows_are_shortened():
    d, system = 8, lorenz96(8)
    observation, ensemble = Mask(d, np.arange(d), noise=0.1), on_attractor(system, 8, 0.4)
    smoother = make_filter("ienks", observation, system, greatest_misfit=None, iterations=20)
    assert isinstance(smoother, IEnKS)
    ends, run = [], smoother.run

    def watched(start: np.ndarray) -> Window:
        window = run(start)
        ends.append(np.all(np.isfinite(window.end)))
        return window

    smoother.run = watched
    y = np.full(d, -1000.0)
    found = cycles(smoother, ensemble, y[None], 4)[0]
    assert not ends[0]
    assert any(ends)
    assert smoother.diagnostics()["new_window"] == 0
    free = cycles(make_filter("free_run", observation, system), ensemble, y[None], 4)[0]
    assert np.linalg.norm(found.mean(axis=0) - y) < np.linalg.norm(free.mean(axis=0) - y)


# --- as part of a study


SECOND = dataclasses.replace(
    LORENZ96, observation={"operator": "stride", "stride": 2, "noise": 1.2}, cycles=4
)


def test_no_estimate_knows_of_a_measurement_to_come():
    truth = simulate(SECOND)
    found, _, _ = run_filter("ienks", {"lag": 3}, truth)
    later = truth.observation.copy()
    later[3] += 1.0
    other, _, _ = run_filter("ienks", {"lag": 3}, dataclasses.replace(truth, observation=later))
    until = 4 * SECOND.gap
    np.testing.assert_array_equal(found.mean[:until], other.mean[:until])
    np.testing.assert_array_equal(found.forecast_mean, other.forecast_mean)
    assert np.max(np.abs(found.mean[until] - other.mean[until])) > 0.01


@pytest.mark.parametrize("form", FORMS)
def test_each_step_costs_the_window(form):
    found, _, _ = run_filter(
        "ienks", {"lag": 2, "form": form, "greatest_misfit": None}, simulate(SECOND)
    )
    cycles_in_window = np.array([1, 2, 2, 2])
    runs = found.diagnostics["steps"] + (form == "bundle")
    assert not np.any(found.diagnostics["new_window"])
    np.testing.assert_allclose(found.model_runs / SECOND.members, 1 + cycles_in_window * runs)


def test_models_with_noise_are_refused():
    observation = make_problem("mask", 4).observation
    with pytest.raises(ValueError, match="models without noise of their own"):
        make_filter(
            "ienks",
            observation,
            make_system("linear_gaussian", {"dimension": 4, "model_noise": 0.5}),
        )


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"localization_radius": 3.0, "block": 5}, "block = 5: does not divide the grid 12"),
        ({"localization_radius": 3.0}, "no distances; set it to null"),
    ],
)
def test_what_does_not_suit_local_domains_is_refused(parameters, said):
    system = lorenz96(12) if "block" in parameters else make_system("lorenz63", {"dt": 0.01})
    observation = Mask(system.dimension, [0], noise=1.0)
    with pytest.raises(ValueError, match=said):
        make_filter("ienks", observation, system, **parameters)


# --- against DAPPER


FIELDS = ("mean", "spread", "forecast_mean", "members")


@installed
@pytest.mark.parametrize("certainty", [None, 1.0])
@pytest.mark.parametrize("lag", [1, 2])
def test_ienks_is_that_of_dapper(lag, certainty, monkeypatch):
    """Equal where each step is taken in full and the last run is kept, as there; and near to it
    with our rules for what is kept.
    """
    shared = {"lag": lag, "tolerance": 0, "iterations": 12, "certainty": certainty}
    ours, truth = shared | {"greatest_misfit": None}, simulate(SECOND)
    expected = run_dapper("ienks", SECOND, **shared)
    by_rules, _, _ = run_filter("ienks", ours, truth)
    monkeypatch.setattr(Step, "cost", lambda _, place: 0.0 * place.misfit)
    plain, _, _ = run_filter("ienks", ours, truth)
    for field in FIELDS:
        values = getattr(expected, field)
        np.testing.assert_allclose(
            getattr(plain, field), values, rtol=1e-4, atol=1e-4, err_msg=field
        )
        np.testing.assert_allclose(getattr(by_rules, field), values, atol=0.1, err_msg=field)


@installed
@pytest.mark.parametrize("iterations", [1, 4])
def test_mda_is_that_of_dapper(iterations):
    """Forecasts are: DAPPER moves the last run by a linear increment for its analysis, where ours
    is a run of the model.
    """
    shared = {"iterations": iterations, "certainty": None}
    expected = run_dapper("ienks", SECOND, mda=True, **shared)
    ours = {"form": "mda", "greatest_misfit": None}
    found, _, _ = run_filter("ienks", shared | ours, simulate(SECOND))
    np.testing.assert_allclose(found.forecast_mean, expected.forecast_mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.members, expected.members, atol=0.5)
    other, _, _ = run_filter("ienks", {"greatest_misfit": None}, simulate(SECOND))
    assert np.max(np.abs(other.forecast_mean - expected.forecast_mean)) > 0.01


@installed
@pytest.mark.parametrize("certainty", [1.0, 2.0])
def test_enkf_n_is_that_of_dapper(certainty):
    shared = {"inflation": 1.03, "certainty": certainty}
    expected = run_dapper("enkf_n", SECOND, **shared)
    found, _, _ = run_filter("enkf_n", shared, simulate(SECOND))
    for field in FIELDS:
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), rtol=1e-3, atol=1e-3, err_msg=field
        )
