"""Tempered passes: the joint process of two times, and filters that use the model several times a
cycle.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from problems import KINDS, make_problem

from masf.arrays import Stream
from masf.diffusion.denoisers.select import GaussianFit
from masf.diffusion.joint import JointBasis
from masf.diffusion.process import ForwardProcess, a, one_minus_a_squared
from masf.diffusion.samplers import coupled
from masf.ensembles.localization import GridTaper
from masf.filters.base import Filter, Setup
from masf.filters.kalman import Gaussian, kalman_update
from masf.filters.passes import adaptive_share, model_runs, prior_inflation
from masf.filters.registry import filter_class
from masf.observations.base import Observation
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.observations.settings import observation_settings
from masf.stages.cycle import run_cycles
from masf.systems.base import System
from masf.systems.registry import make_system

D = 6
PRESENT, PAST = "present", "past"


def make_filter(
    name: str, system: System, observation: Observation, like: object = None, **parameters: object
) -> Filter:
    cls = filter_class(name)
    mean = np.zeros(system.dimension) if like is None else like
    return cls(
        cls.Parameters(**parameters), Setup(system, observation, mean, 1.0, Stream(3, "test"))
    )


def analysed(filter_: Filter, ensemble: object, gap: int, y: object) -> object:
    """The analysis after ``gap`` steps from ``ensemble``."""
    state = filter_.start(ensemble)
    for _ in range(gap):
        state = filter_.forecast(state)
    return filter_.project(filter_.analyse(state, y))


# The joint process


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0.2, 0.7])
def test_joint_process_measures_the_present_and_leaves_the_past_to_the_ensemble(kind, t):
    problem = make_problem(kind, D)
    members = np.random.default_rng(4).standard_normal((9, 2 * D))
    alone = problem.observation.basis()
    joint = ForwardProcess.for_ensemble(JointBasis(alone), members)
    present = ForwardProcess.for_ensemble(alone, members[:, D:])
    x, y = np.random.default_rng(1).standard_normal((3, 2 * D)), problem.y
    diffused, noise = joint.diffuse(x, t, x[::-1]), x[::-1]
    np.testing.assert_allclose(
        diffused[:, D:], present.diffuse(x[:, D:], t, noise[:, D:]), rtol=1e-12
    )
    expected = (
        a(t) * x[:, :D]
        + np.sqrt(one_minus_a_squared(t)) * members[:, :D].std(axis=0, ddof=1) * noise[:, :D]
    )
    np.testing.assert_allclose(diffused[:, :D], expected, rtol=1e-12)
    score = joint.likelihood_score(x, t, y)
    np.testing.assert_allclose(score[:, D:], present.likelihood_score(x[:, D:], t, y), rtol=1e-12)
    assert not np.any(score[:, :D])
    ends = joint.end_state(x, y)
    np.testing.assert_allclose(
        ends, np.concatenate([x[:, :D], present.end_state(x[:, D:], y)], axis=1), rtol=1e-12
    )
    basis, identity = joint.basis, np.eye(2 * D)
    coefficient = np.random.default_rng(2).random(len(basis.s))
    matrix = basis.apply(coefficient, identity)
    np.testing.assert_allclose(basis.diagonal(coefficient), np.diag(matrix), rtol=1e-10)
    variance = np.random.default_rng(3).random(2 * D)
    through = basis.variance_through(coefficient, variance)
    np.testing.assert_allclose(through, np.diag(matrix @ np.diag(variance) @ matrix.T), rtol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_temperature_is_noise_of_so_much_more_variance(temperature):
    problem = make_problem("dense", D)
    tempered = ForwardProcess(problem.observation.basis(), temperature=temperature)
    noise = temperature * problem.observation.noise.covariance
    noisier = ForwardProcess(Matrix(problem.observation.matrix, noise=noise).basis())
    x = np.random.default_rng(1).standard_normal((3, D))
    np.testing.assert_allclose(
        tempered.end_state(x, problem.y), noisier.end_state(x, problem.y), rtol=1e-9
    )
    for t in (0.3, 0.9):
        scores = [process.likelihood_score(x, t, problem.y) for process in (tempered, noisier)]
        np.testing.assert_allclose(*scores, rtol=1e-7, atol=1e-10)


def test_coupled_moves_the_past_by_the_gain_of_an_enkf_with_its_cross_covariance():
    """K = Cov(x, F) H^T (H Cov(F) H^T + R)^(-1), the ensemble smoother's; square root, so that no
    noise enters.
    """
    observation = Mask(D, np.array([2]), noise=0.5)
    past = make_problem("identity", D).prior_draws(9, seed=1)
    present = past + 0.3 * np.roll(past, 1, axis=-1) ** 2
    joint = np.concatenate([past, present], axis=-1)
    process = ForwardProcess.for_ensemble(JointBasis(observation.basis()), joint)
    denoiser = GaussianFit("localized", None)(process, joint)
    found = coupled(
        process, denoiser, np.array([1.5]), joint, [0.0, 1.0], Stream(0, "test"), perturbation=0.0
    )[:, :D]
    h = present[:, 2]
    gain = np.cov(past.T, h)[:D, D] / (h.var(ddof=1) + 0.25)
    expected = past.mean(axis=0) + gain * (1.5 - h.mean())
    np.testing.assert_allclose(found.mean(axis=0), expected, rtol=1e-6, atol=1e-9)
    left = np.cov(past.T) - np.outer(gain, np.cov(past.T, h)[:D, D])
    np.testing.assert_allclose(np.cov(found.T), left, rtol=1e-5, atol=1e-7)


# Filters


def linear(dimension: int, **parameters: float) -> System:
    return make_system(
        "linear_gaussian", {"dimension": dimension, "model_noise": 0.0, **parameters}
    )


@pytest.mark.parametrize("finish", [PRESENT, PAST])
@pytest.mark.parametrize("passes", [1, 2, 5])
def test_a_linear_scalar_model_has_the_kalman_posterior_at_any_number_of_passes(passes, finish):
    """By the square-root sampler, whose sample moments are exact: those of the Kalman update of the
    forecast's.
    """
    system, observation = linear(1), Mask(1, np.array([0]), noise=0.7)
    filter_ = make_filter(
        "masf_gaussian",
        system,
        observation,
        perturbation=0.0,
        passes=passes,
        finish=finish,
        localization_radius=None,
        passes_radius=None,
    )
    ensemble, y, gap = np.random.default_rng(1).standard_normal((8, 1)), np.array([1.3]), 4
    m = np.linalg.matrix_power(system.matrix, gap)
    forecast = Gaussian(ensemble.mean(axis=0) @ m.T, m @ np.atleast_2d(np.cov(ensemble.T)) @ m.T)
    expected = kalman_update(forecast, y, observation.matrix, observation.noise.covariance)
    found = analysed(filter_, ensemble, gap, y)
    np.testing.assert_allclose(found.mean(axis=0), expected.mean, rtol=1e-6)
    np.testing.assert_allclose(found.var(axis=0, ddof=1), expected.covariance[0], rtol=1e-5)


@pytest.mark.parametrize("finish", [PRESENT, PAST])
@pytest.mark.parametrize("kind", ["mask", "pooling", "dense"])
def test_a_linear_model_has_the_kalman_posterior_in_distribution(kind, finish):
    system, problem, n, gap = linear(D), make_problem(kind, D), 20_000, 2
    whole = {"localization_radius": None, "passes_radius": None}
    filter_ = make_filter(
        "masf_gaussian", system, problem.observation, passes=3, finish=finish, **whole
    )
    ensemble = problem.prior_draws(n, seed=1)
    m = np.linalg.matrix_power(system.matrix, gap)
    prior = Gaussian(m @ ensemble.mean(axis=0), m @ np.cov(ensemble.T) @ m.T)
    expected = kalman_update(
        prior, problem.y, problem.observation.matrix, problem.observation.noise.covariance
    )
    found = analysed(filter_, ensemble, gap, problem.y)
    # Noise that happens to correlate with members leaves some standard errors, of 1 / sqrt(n) =
    # 0.7%.
    deviation = np.sqrt(np.diag(expected.covariance))
    assert np.max(np.abs(found.mean(axis=0) - expected.mean) / deviation) < 0.04
    assert (
        np.max(np.abs(np.cov(found.T) - expected.covariance) / np.outer(deviation, deviation))
        < 0.06
    )


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize(
    "passes",
    [
        {"passes": 2, "finish": PAST},
        {"passes": 3, "finish": PRESENT},
        {"passes": 8, "finish": PAST, "pace": 1.5},
        {"passes": 8, "finish": PRESENT, "pace": 1.5},
    ],
    ids=lambda p: "-".join(map(str, p.values())),
)
@pytest.mark.parametrize("lag", [1, 2, 4])
def test_a_linear_model_is_the_kalman_filter_cycle_by_cycle_at_any_lag(lag, passes, rotation):
    """Each measurement is taken in once, whatever the window; sample moments are exact, by the
    square root.
    """
    system, problem, gap = linear(D), make_problem("dense", D), 2
    filter_ = make_filter(
        "masf_gaussian",
        system,
        problem.observation,
        lag=lag,
        perturbation=0.0,
        rotation=rotation,
        localization_radius=None,
        passes_radius=None,
        **passes,
    )
    state = filter_.start(problem.prior_draws(12, seed=1))
    m, matrix = np.linalg.matrix_power(system.matrix, gap), problem.observation.matrix
    expected = Gaussian(state.mean(axis=0), np.cov(state.T))
    for cycle in range(6):
        y = problem.y + 0.3 * cycle
        expected = kalman_update(
            Gaussian(m @ expected.mean, m @ expected.covariance @ m.T),
            y,
            matrix,
            problem.observation.noise.covariance,
        )
        for _ in range(gap):
            state = filter_.forecast(state)
        state = filter_.project(filter_.analyse(state, y))
        np.testing.assert_allclose(state.mean(axis=0), expected.mean, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(np.cov(state.T), expected.covariance, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("lag", [1, 3])
def test_members_stay_what_the_model_makes_of_those_at_the_beginning_of_the_window(lag):
    """Rotation and inflation are of both together; a run of the model that was kept is a run."""
    system, problem = linear(D), make_problem("mask", D)
    filter_ = make_filter(
        "masf_gaussian",
        system,
        problem.observation,
        lag=lag,
        passes=2,
        finish=PAST,
        rotation=True,
        inflation=1.1,
        certainty=1.0,
    )
    state = filter_.start(problem.prior_draws(9, seed=2))
    for cycle in range(1, 6):
        for _ in range(3):
            state = filter_.forecast(state)
        state = filter_.project(filter_.analyse(state, problem.y))
        begin, steps = filter_._past, sum(filter_._gaps)
        assert steps == 3 * (min(cycle, lag - 1))
        again = system.advance(begin, steps, Stream(0, "unused"))
        np.testing.assert_allclose(again, state, rtol=1e-6, atol=1e-8)


def test_shares_are_those_of_the_misfit_controller_and_end_at_one():
    observation = Mask(3, np.arange(3), noise=0.5)
    ensemble, y = np.random.default_rng(3).standard_normal((40, 3)), np.array([2.0, 0.0, -3.0])
    phi = ((y - ensemble) ** 2 / 0.25).sum(axis=1) / 2
    expected = max(3 / (2 * phi.mean()), np.sqrt(3 / (2 * phi.var(ddof=1))))
    np.testing.assert_allclose(adaptive_share(ensemble, y, observation), expected, rtol=1e-10)
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 8, "forcing": 8.0})
    observation = Mask(8, np.arange(8), noise=0.1)
    filter_ = make_filter(
        "masf_gaussian", system, observation, passes=30, pace=1.0, finish=PAST, passes_radius=None
    )
    ensemble = 3 + np.random.default_rng(0).standard_normal((20, 8))
    state = filter_.start(ensemble)
    state = filter_.forecast(state)
    shares, moved = [], filter_._moved

    def noted(past, present, y, share):
        shares.append(share)
        return moved(past, present, y, share)

    filter_._moved = noted
    filter_.analyse(state, observation.apply(ensemble[0]) + 0.05)
    assert 2 < len(shares) < 30
    assert sum(shares) == pytest.approx(1.0)
    assert filter_.diagnostics()["passes"] == len(shares)
    # What is left fits better and better.
    assert all(a < b for a, b in itertools.pairwise(shares[:-1]))


def test_prior_inflation_is_that_of_enkf_n():
    """Of one component, measured alone: enkf_n's variance is zeta^(-1) P of the forecast, then
    Kalman's.
    """
    observation = Mask(1, np.array([0]), noise=0.7)
    ensemble, y = np.random.default_rng(5).standard_normal((6, 1)), np.array([4.0])
    system = linear(1)
    found = make_filter("enkf_n", system, observation, certainty=1.0).analyse(ensemble, y)
    factor = prior_inflation(ensemble, y, observation, 1.0)
    assert factor > 1.05
    prior = factor**2 * ensemble.var(ddof=1)
    np.testing.assert_allclose(found.var(ddof=1), prior * 0.49 / (prior + 0.49), rtol=1e-5)
    whole = {"localization_radius": None, "perturbation": 0.0, "certainty": 1.0}
    filter_ = make_filter("masf_gaussian", system, observation, **whole)
    filter_.start(ensemble)
    analysis = filter_.analyse(ensemble, y)
    np.testing.assert_allclose(analysis.mean(), found.mean(), rtol=1e-6)
    np.testing.assert_allclose(analysis.var(ddof=1), found.var(ddof=1), rtol=1e-5)
    assert filter_.diagnostics()["prior_inflation"] == pytest.approx(factor)


def test_passes_that_lose_the_track_give_way_to_one_in_the_present_and_a_new_window():
    system = make_system("lorenz96", {"dt": 0.05, "dimension": 8, "forcing": 8.0})
    observation = Mask(8, np.arange(8), noise=0.01)
    ensemble = 3 + np.random.default_rng(0).standard_normal((10, 8))
    far = np.full(8, 40.0)  # no state of the past leads there
    common = {"perturbation": 0.0, "passes_radius": None, "localization_radius": 4.0}
    filter_ = make_filter(
        "masf_gaussian", system, observation, passes=3, lag=3, finish=PAST, greatest_misfit=4.0,
        **common,
    )  # fmt: skip
    one_pass = make_filter("masf_gaussian", system, observation, **common)
    state = filter_.start(ensemble)
    with np.errstate(all="ignore"):
        forecast = filter_.forecast(state)
        found = filter_.project(filter_.analyse(forecast, far))
    one_pass.start(ensemble)
    np.testing.assert_allclose(found, one_pass.analyse(forecast, far), rtol=1e-10)
    assert filter_.diagnostics()["new_window"] == 1.0
    np.testing.assert_array_equal(filter_._past, found)
    assert filter_._gaps == [0]


@pytest.mark.parametrize(
    ("name", "parameters", "forecasts"),
    [
        ("enkf", {}, 1),
        ("masf_gaussian", {"passes": 3, "finish": PRESENT}, 3),
        ("masf_gaussian", {"passes": 3, "finish": PAST}, 4),
        ("masf_gaussian", {"passes": 3, "finish": PRESENT, "lag": 2}, 5),
    ],
)
def test_every_run_of_the_model_is_counted(name, parameters, forecasts):
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 8, "forcing": 8.0})
    observation = Mask(8, np.arange(8), noise=1.0)
    filter_ = make_filter(name, system, observation, **parameters)
    ensemble = 3 + np.random.default_rng(0).standard_normal((10, 8))
    values = np.full((4, 8), 2.0)
    found = run_cycles(filter_, ensemble, values, gap=5, truth_at_cycles=values)
    # The first window has the first cycle alone.
    assert found.model_runs[1:].tolist() == [10 * forecasts] * 3
    if name != "enkf":
        assert model_runs(filter_.parameters, 4) == found.model_runs.mean() / 10
    # The system itself is as it was.
    assert "step" not in vars(system)


def test_model_runs_of_passes_that_are_chosen_as_they_go_on_are_not_foretold():
    parameters = filter_class("masf_gaussian").Parameters
    assert math.isnan(model_runs(parameters(passes=8, pace=4), 10))
    assert model_runs(parameters(passes=1, pace=4, finish="past", lag=3), 10) == 1


def test_a_model_with_noise_of_its_own_is_refused():
    system, observation = linear(4, model_noise=0.3), Mask(4, np.arange(4), noise=1.0)
    with pytest.raises(ValueError, match="passes = 2: this system's model has noise of its own"):
        make_filter("masf_gaussian", system, observation, passes=2)
    make_filter("masf_gaussian", system, observation)


@pytest.mark.parametrize("name", ["masf_gaussian", "masf_mc"])
def test_passes_lower_the_error_where_forecasts_spread_far(name):
    """Lorenz-96, gap 30, ten cycles from one ensemble, on torch: the same measurements, with one
    pass and with three.
    """
    system = make_system("lorenz96", {"dt": 0.01, "dimension": 20, "forcing": 8.0})
    observation, stream = Mask(20, np.arange(20), noise=1.0), Stream(1, "truth")
    truth = torch.as_tensor(system.typical_state(stream), dtype=torch.float32)
    start = truth + torch.randn((60, 20), generator=torch.Generator().manual_seed(2))
    errors = {}
    for passes in (1, 3):
        x, ensemble, found, noise = truth, start, [], Stream(4, "noise")
        filter_ = make_filter(name, system, observation, truth, passes=passes, inflation=1.03)
        for _ in range(10):
            for _ in range(30):
                x = system.step(x, stream)
            ensemble = analysed(filter_, ensemble, 30, x + observation.noise.draw((), x, noise))
            found.append(float((ensemble.mean(dim=0) - x).square().mean().sqrt()))
        errors[passes] = np.mean(found[3:])
    assert errors[3] < 0.9 * errors[1]


def test_passes_run_on_a_grid_without_a_matrix():
    system = make_system("kolmogorov", {"size": 16, "forcing_wavenumber": 2})
    settings = observation_settings({"operator": "grid", "stride": 4, "noise": 0.1})
    observation = settings.build(system.dimension, system.grid)
    filter_ = make_filter(
        "masf_gaussian", system, observation, passes=2, localization_radius=1.2, passes_radius=1.6
    )
    assert isinstance(filter_.joint_fit.taper, GridTaper)
    ensemble = system.perturbations(8, np.zeros(1), Stream(0, "ensemble"))
    found = analysed(filter_, ensemble, 2, observation.apply(ensemble[0]))
    np.testing.assert_allclose(found, system.project(found), atol=1e-6)
    # Measured by the first member itself, the others come nearer to it.
    apart = [np.abs(observation.apply(x[1:] - ensemble[:1])).mean() for x in (ensemble, found)]
    assert apart[1] < apart[0]
