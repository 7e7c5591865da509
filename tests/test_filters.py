"""Filters: each against its textbook formula, and all against the Kalman filter on a linear
Gaussian system.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from problems import KINDS, make_problem

import masf
from masf.arrays import Stream, on_device, to_numpy
from masf.ensembles.inflation import inflate
from masf.ensembles.innovations import perturbed_innovations
from masf.filters.base import Filter, Setup, ensemble_needs_members, initial_draws
from masf.filters.enkf import enkf_increments
from masf.filters.enkf_localized import localized_increments
from masf.filters.kalman import Gaussian, kalman_update
from masf.filters.particle import systematic_resampling
from masf.filters.process_filter import ProcessFilter
from masf.filters.registry import filter_class, filter_names
from masf.observations.base import Observation
from masf.observations.mask import Mask
from masf.systems.registry import make_system

NETWORKS = {"masf", "masf_fresh", "masf_guided"}
"""Filters that run here without their network."""
LINEAR = {"dimension": 4, "speed": 0.6, "diffusion": 0.3, "persistence": 0.95, "model_noise": 0.5}


def make_filter(
    name: str, observation: Observation, *, seed: int = 0, spread: float = 1.0, **parameters: object
) -> Filter:
    """A filter on the linear system, in numpy and float64."""
    system = make_system("linear_gaussian", LINEAR | {"dimension": observation.dimension})
    mean = np.linspace(-1, 1, observation.dimension)
    cls = filter_class(name)
    return cls(
        cls.Parameters(**parameters),
        Setup(system, observation, mean, spread, Stream(seed, f"test {name}")),
    )


# --- the EnKF's formulas


def textbook_increments(ensemble, innovations, observation, taper=1.0):
    h, p = observation.matrix, np.cov(ensemble.T) * taper
    return innovations @ (p @ h.T @ np.linalg.inv(h @ p @ h.T + observation.noise.covariance)).T


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [3, 30], ids=["fewer members than measurements", "more"])
def test_enkf_increments_are_the_textbook_formula(kind, n):
    problem = make_problem(kind, 8)
    assert n < problem.observation.size or n == 30
    ensemble = problem.prior_draws(n, seed=1)
    innovations = np.random.default_rng(2).standard_normal((n, problem.observation.size))
    expected = textbook_increments(ensemble, innovations, problem.observation)
    increments = enkf_increments(ensemble, innovations, problem.observation)
    np.testing.assert_allclose(increments, expected, rtol=1e-9, atol=1e-11)
    in_torch = enkf_increments(
        torch.as_tensor(ensemble), torch.as_tensor(innovations), problem.observation
    )
    np.testing.assert_allclose(in_torch, increments, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_localized_increments_taper_the_covariance(kind):
    problem = make_problem(kind, 8)
    taper = np.exp(-np.abs(np.subtract.outer(np.arange(8), np.arange(8))) / 2)
    ensemble = problem.prior_draws(5, seed=1)
    innovations = np.random.default_rng(2).standard_normal((5, problem.observation.size))
    increments = localized_increments(ensemble, innovations, problem.observation, taper)
    expected = textbook_increments(ensemble, innovations, problem.observation, taper)
    np.testing.assert_allclose(increments, expected, rtol=1e-9, atol=1e-11)
    in_torch = localized_increments(
        *map(torch.as_tensor, (ensemble, innovations)), problem.observation, torch.as_tensor(taper)
    )
    np.testing.assert_allclose(in_torch, increments, rtol=1e-9, atol=1e-11)


def test_perturbations_have_covariance_r_and_do_not_move_the_mean(assert_moments):
    problem = make_problem("dense", 6)
    ensemble = problem.prior_draws(20_000, seed=1)
    innovations = perturbed_innovations(ensemble, problem.y, problem.observation, Stream(0, "test"))
    expected_mean = problem.y - problem.observation.apply(ensemble.mean(axis=0))
    np.testing.assert_allclose(innovations.mean(axis=0), expected_mean, atol=1e-12)
    perturbations = innovations - problem.y + problem.observation.apply(ensemble)
    assert_moments(perturbations, np.zeros(3), problem.observation.noise.covariance)


# --- the laws of single members, given the forecast ensemble


ENKF_LIKE = [
    ("enkf", {}),
    ("enkf_localized", {"localization_radius": None}),
    ("enkf_localized", {"localization_radius": 2.0}),
    ("masf", {"network": False, "steps": 1, "covariance": "ensemble"}),
    ("masf", {"network": False, "steps": 5, "covariance": "ensemble"}),
    ("masf", {"network": False, "steps": 5, "localization_radius": None}),
    ("masf", {"network": False, "steps": 5, "localization_radius": 2.0}),
    ("masf_gaussian", {"covariance": "ensemble"}),
    ("masf_gaussian", {"steps": 3, "localization_radius": 2.0}),
]
DIAGONAL = ("masf", {"network": False, "steps": 5, "covariance": "diagonal"})


def taper_of(filter_):
    """What a filter multiplies the ensemble's covariance by: 1 where it does not localise."""
    taper = (
        filter_.fit.taper if isinstance(filter_, ProcessFilter) else getattr(filter_, "taper", None)
    )
    return 1.0 if taper is None else taper


@pytest.mark.parametrize(
    ("kind", "name", "parameters"),
    [(kind, *f) for kind in ("identity", "mask", "dense") for f in ENKF_LIKE]
    + [("identity", *DIAGONAL), ("mask", *DIAGONAL)],
)
def test_masf_without_a_network_is_the_enkf_in_distribution(kind, name, parameters, assert_moments):
    """Member i goes to x_i + K (y - H x_i) + K eta with eta ~ N(0, R): the increments' noise is the
    same for all filters.
    """
    problem = make_problem(kind, 6)
    observation, ensemble = problem.observation, problem.prior_draws(20_000, seed=1)
    filter_ = make_filter(name, observation, **parameters)
    taper = taper_of(filter_)
    covariance = np.cov(ensemble.T) * (
        np.eye(6) if parameters.get("covariance") == "diagonal" else taper
    )
    h = observation.matrix
    gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + observation.noise.covariance)
    noise = filter_.analyse(ensemble, problem.y) - ensemble - (problem.y - ensemble @ h.T) @ gain.T
    # Components that the gain does not reach have no noise; the others have K R K^T.
    expected = gain @ observation.noise.covariance @ gain.T
    reached = np.diag(expected) > 1e-12
    np.testing.assert_allclose(noise[:, ~reached], 0, atol=1e-9)
    assert_moments(noise[:, reached], np.zeros(reached.sum()), expected[np.ix_(reached, reached)])


@pytest.mark.parametrize(("name", "parameters"), ENKF_LIKE)
def test_noise_of_small_ensembles_moves_no_mean_and_has_an_unbiased_covariance(
    name, parameters, bonferroni
):
    """Member i goes to x_i + K (y - H x_i) + e_i: the e_i have mean 0, and sample covariance K R
    K^T in expectation.

    Else the analysis covariance is not (I - K H) P in expectation, as the EnKF's is.
    """
    problem, n, repeats = make_problem("dense", 4), 5, 400
    observation, ensemble = problem.observation, problem.prior_draws(n, seed=1)
    filter_ = make_filter(name, observation, **parameters)
    h, p = observation.matrix, np.cov(ensemble.T)
    p = p * taper_of(filter_)
    gain = p @ h.T @ np.linalg.inv(h @ p @ h.T + observation.noise.covariance)
    without_noise = ensemble + (problem.y - ensemble @ h.T) @ gain.T
    noise = np.array([filter_.analyse(ensemble, problem.y) for _ in range(repeats)]) - without_noise
    np.testing.assert_allclose(noise.mean(axis=1), 0, atol=1e-9)
    entries = np.triu_indices(4)
    covariances = np.array([np.cov(e.T)[entries] for e in noise])
    expected = (gain @ observation.noise.covariance @ gain.T)[entries]
    errors = (covariances.mean(axis=0) - expected) / (
        covariances.std(axis=0, ddof=1) / math.sqrt(repeats)
    )
    assert np.max(np.abs(errors)) < bonferroni(len(errors))


# --- the Kalman filter


@pytest.mark.parametrize("kind", KINDS)
def test_kalman_update_is_the_information_form(kind):
    problem = make_problem(kind, 6)
    prior = Gaussian(problem.mean, problem.covariance)
    posterior = kalman_update(
        prior, problem.y, problem.observation.matrix, problem.observation.noise.covariance
    )
    mean, covariance = problem.posterior
    np.testing.assert_allclose(posterior.mean, mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(posterior.covariance, covariance, rtol=1e-10, atol=1e-12)


def test_kalman_cycle_conditions_the_joint_normal_of_all_states():
    observation, cycles, gap, d = make_problem("dense", 4).observation, 3, 2, 4
    filter_ = make_filter("kalman", observation, spread=0.7)
    m, times = filter_.system.matrix, cycles * gap + 1
    # All states at once: x = G (x_0, xi_1, ..., xi_T), with G lower triangular in blocks of powers
    # of M.
    powers = [np.linalg.matrix_power(m, k) for k in range(times)]
    g = np.block(
        [
            [powers[i - j] if i >= j else np.zeros((d, d)) for j in range(times)]
            for i in range(times)
        ]
    )
    scale = np.repeat([0.7**2] + [LINEAR["model_noise"] ** 2] * (times - 1), d)
    joint_mean = g[:, :d] @ filter_.setup.initial_mean
    joint_covariance = (g * scale) @ g.T
    ys = np.random.default_rng(3).standard_normal((cycles, observation.size))

    state = filter_.start(np.empty((2, d)))
    for k in range(1, cycles + 1):
        for _ in range(gap):
            state = filter_.forecast(state)
        state = filter_.analyse(state, ys[k - 1])
        h = np.zeros((k * observation.size, times * d))
        for j in range(1, k + 1):
            h[
                (j - 1) * observation.size : j * observation.size, j * gap * d : (j * gap + 1) * d
            ] = observation.matrix
        r = np.kron(np.eye(k), observation.noise.covariance)
        gain = joint_covariance @ h.T @ np.linalg.inv(h @ joint_covariance @ h.T + r)
        now = slice(k * gap * d, (k * gap + 1) * d)
        expected_mean = (joint_mean + gain @ (ys[:k].ravel() - h @ joint_mean))[now]
        expected_covariance = (joint_covariance - gain @ h @ joint_covariance)[now, now]
        np.testing.assert_allclose(state.mean, expected_mean, rtol=1e-9)
        np.testing.assert_allclose(state.covariance, expected_covariance, rtol=1e-9, atol=1e-12)
        mean, spread = filter_.moments(state)
        np.testing.assert_allclose(mean, expected_mean, rtol=1e-9)
        np.testing.assert_allclose(spread, np.sqrt(np.diag(expected_covariance)), rtol=1e-9)


def test_kalman_members_are_draws_from_the_posterior(assert_moments):
    problem = make_problem("dense", 4)
    filter_ = make_filter("kalman", problem.observation, draws=20_000)
    assert_moments(
        filter_.members(Gaussian(problem.mean, problem.covariance)),
        problem.mean,
        problem.covariance,
    )


@pytest.mark.parametrize("name", ["lorenz63", "lorenz96"])
def test_kalman_refuses_a_nonlinear_system(name):
    system = make_system(
        name, {"dt": 0.01} | ({} if name == "lorenz63" else {"dimension": 8, "forcing": 8.0})
    )
    observation = Mask(system.dimension, [0], noise=1.0)
    cls = filter_class("kalman")
    with pytest.raises(ValueError, match="for linear systems only"):
        cls(
            cls.Parameters(),
            Setup(system, observation, np.zeros(system.dimension), 1.0, Stream(0, "test")),
        )


# --- every ensemble filter, against the Kalman filter

CONSISTENT = [
    ("enkf", {}),
    ("enkf_localized", {"localization_radius": None}),
    ("enkf_n", {}),
    ("etkf", {}),
    ("letkf", {"localization_radius": None}),
    ("rhf", {"localization_radius": None}),
    ("masf", {"network": False, "steps": 4, "covariance": "ensemble"}),
    ("masf", {"network": False, "steps": 4, "localization_radius": None}),
    ("masf_gaussian", {"steps": 4, "localization_radius": None}),
    ("masf_fresh", {"network": False, "steps": 4, "covariance": "ensemble"}),
    ("masf_fresh", {"network": False, "steps": 4, "localization_radius": None}),
    ("particle", {"particles": 8000}),
]
INCONSISTENT = {"free_run", "masf_guided", "kalman"}
OTHERS = {"enff", "enkf_hybrid", "ensf", "ienks", "lnetf", "local_pf", "masf_mc", "sf", "ssls"}
"""Held against what theory says they give, in test_score_filters.py, test_ienks.py,
test_lnetf.py, test_local_pf.py, test_enff.py and test_enkf_hybrid.py.
"""


def test_every_filter_is_held_against_the_kalman_filter_or_known_to_differ():
    assert {name for name, _ in CONSISTENT} | INCONSISTENT | OTHERS == set(filter_names())


@pytest.mark.parametrize("kind", ["mask", "dense"])
@pytest.mark.parametrize(("name", "parameters"), CONSISTENT)
def test_a_large_ensemble_comes_near_the_kalman_posterior(name, parameters, kind):
    observation, y, n, repeats = (
        make_problem(kind, 3).observation,
        make_problem(kind, 3).y,
        2000,
        20,
    )
    kalman = make_filter("kalman", observation)
    posterior = kalman.analyse(kalman.forecast(kalman.start(np.empty((2, 3)))), y)
    found = []
    for seed in range(repeats):
        filter_ = make_filter(name, observation, seed=seed, **parameters)
        ensemble = filter_.start(initial_draws(kalman.setup, n))
        analysis = filter_.analyse(filter_.forecast(ensemble), y)
        found.append(
            np.concatenate([analysis.mean(axis=0), np.cov(analysis.T)[np.triu_indices(3)]])
        )
    # Independent repeats give each moment's standard error: Student's t, and Bonferroni over the
    # moments. The bias of an ensemble of n, of order 1/n, is far below the standard error, of order
    # (n repeats)^(-1/2).
    expected = np.concatenate([posterior.mean, posterior.covariance[np.triu_indices(3)]])
    errors = (np.mean(found, axis=0) - expected) / (
        np.std(found, axis=0, ddof=1) / math.sqrt(repeats)
    )
    assert np.max(np.abs(errors)) < scipy.stats.t.isf(1e-3 / 2 / len(errors), repeats - 1)


def test_guided_filter_has_the_gain_of_theory_and_not_the_kalman_gain(bonferroni):
    n = 10_000
    ensemble = np.random.default_rng(0).standard_normal((n, 1))
    ensemble = (ensemble - ensemble.mean()) / ensemble.std(ddof=1)
    filter_ = make_filter(
        "masf_guided", Mask(1, [0], noise=1.0), network=False, steps=400, covariance="diagonal"
    )
    analysis = filter_.analyse(ensemble, np.array([2.0]))
    # Variance 3 - 4 log 2, and a step error below 0.005: see test_samplers.py.
    bound = 0.005 + bonferroni(1) * math.sqrt((3 - 4 * math.log(2)) / n)
    assert analysis.mean() == pytest.approx(2 * math.log(2), abs=bound)


# --- the particle filter


@pytest.mark.parametrize("offset", [0.0, 0.3, 0.999])
@pytest.mark.parametrize(
    "weights",
    [
        [0.0, 1.0, 0.0, 0.0],
        [0.1, 0.2, 0.3, 0.4],
        [0.25, 0.25, 0.25, 0.25],
        [0.0, 0.0, 0.5, 0.5],
        [0.7, 0.0, 0.3, 0.0],
    ],
)
def test_systematic_resampling_copies_as_often_as_weights_say(weights, offset):
    weights = np.array(weights)
    chosen = systematic_resampling(weights, offset)
    copies = np.bincount(chosen, minlength=4)
    assert len(chosen) == 4
    assert np.all(np.diff(chosen) >= 0)
    assert np.all(copies[weights == 0] == 0)
    assert np.all(np.abs(copies - 4 * weights) < 1 + 1e-12)


def test_systematic_resampling_is_unbiased_over_offsets():
    weights = np.random.default_rng(0).dirichlet(np.ones(7))
    offsets = (np.arange(2000) + 0.5) / 2000
    copies = np.mean(
        [np.bincount(systematic_resampling(weights, u), minlength=7) for u in offsets], axis=0
    )
    # Each expected count is an integral of a step function with at most two jumps of size 1, on a
    # grid of 2000 points.
    np.testing.assert_allclose(copies, 7 * weights, atol=2 / 2000)


def test_systematic_resampling_never_leaves_the_ensemble():
    weights = np.full(10, 0.1)
    weights[-1] = 0.1 - 1e-12
    assert systematic_resampling(weights, np.nextafter(1, 0)).max() == 9


@pytest.mark.parametrize("bandwidth", [0.0, 1.0])
def test_kernel_moves_particles_but_keeps_mean_and_covariance(bandwidth, bonferroni):
    n, problem = 2000, make_problem("mask", 2)
    blind = Mask(2, [0], noise=1e9)
    state = problem.prior_draws(n, seed=1)
    moved = make_filter("particle", blind, bandwidth=bandwidth).analyse(state, np.zeros(1))
    if bandwidth == 0:
        np.testing.assert_allclose(np.sort(moved, axis=0), np.sort(state, axis=0), atol=1e-12)
        return
    # All weights are equal, so each particle has one copy: sqrt(1 - h^2) of its anomaly plus noise
    # of covariance h^2 C.
    h2 = (4 / (4 * n)) ** (2 / 6)
    c = np.cov(state.T)
    mean_errors = (moved.mean(axis=0) - state.mean(axis=0)) / np.sqrt(h2 * np.diag(c) / n)
    scale = (2 * h2 * (1 - h2) + h2**2) * (np.outer(np.diag(c), np.diag(c)) + c**2) / n
    covariance_errors = ((np.cov(moved.T) - c) / np.sqrt(scale))[np.triu_indices(2)]
    errors = np.concatenate([mean_errors, covariance_errors])
    assert np.max(np.abs(errors)) < bonferroni(len(errors))
    assert not np.isin(moved, state).any()


def test_first_particles_are_a_fair_sample_of_all():
    n, observation = 2000, Mask(1, np.arange(1), noise=0.5)
    state = np.linspace(-2, 2, n)[:, None]
    analysis = make_filter("particle", observation, particles=n, bandwidth=0.0).analyse(
        state, np.ones(1)
    )
    first, rest = analysis[:100, 0], analysis[100:, 0]
    assert scipy.stats.ks_2samp(first, rest).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["mask", "dense"])
def test_particle_filter_meets_the_kalman_posterior(kind, bonferroni):
    observation, y, n = make_problem(kind, 2).observation, make_problem(kind, 2).y, 50_000
    kalman = make_filter("kalman", observation)
    prior = kalman.forecast(kalman.start(np.empty((2, 2))))
    posterior = kalman.analyse(prior, y)
    particle = make_filter("particle", observation, particles=n)
    forecast = particle.forecast(particle.start(np.empty((2, 2))))
    analysis = particle.analyse(forecast, y)
    # Importance sampling: a weighted mean of f has variance E[w^2 (f - Ef)^2] / n with w =
    # posterior / prior density, and resampling adds at most Var(f) / n. f is each component, and
    # each product of two.
    w = scipy.stats.multivariate_normal(posterior.mean, posterior.covariance).pdf(forecast)
    w /= scipy.stats.multivariate_normal(prior.mean, prior.covariance).pdf(forecast)

    def functions(x):
        x = x - posterior.mean
        return np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2], axis=-1)

    c = posterior.covariance
    expected = np.array([0, 0, c[0, 0], c[0, 1], c[1, 1]])
    variance = np.mean((w[:, None] * (functions(forecast) - expected)) ** 2, axis=0) + functions(
        analysis
    ).var(axis=0)
    errors = (functions(analysis).mean(axis=0) - expected) / np.sqrt(variance / n)
    assert np.max(np.abs(errors)) < bonferroni(len(errors))
    effective_size = particle.diagnostics()["effective_size"]
    assert effective_size == pytest.approx(w.sum() ** 2 / np.sum(w**2), rel=1e-6)


# --- what all filters share


def test_inflate_scales_anomalies_and_keeps_the_mean():
    ensemble = np.random.default_rng(0).standard_normal((9, 3))
    inflated = inflate(ensemble, 1.3)
    np.testing.assert_allclose(inflated.mean(axis=0), ensemble.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(np.cov(inflated.T), 1.69 * np.cov(ensemble.T), rtol=1e-12)
    np.testing.assert_array_equal(inflate(ensemble, 1.0), ensemble)


@pytest.mark.parametrize(
    "name",
    [
        "enkf",
        "enkf_localized",
        "etkf",
        "letkf",
        "lnetf",
        "rhf",
        "masf",
        "masf_fresh",
        "masf_gaussian",
        "masf_guided",
    ],
)
def test_filters_inflate_their_analysis(name):
    problem = make_problem("mask", 6)
    ensemble = problem.prior_draws(10, seed=1)
    parameters = {"network": False, "steps": 3} if name in NETWORKS else {}
    filters = (
        make_filter(name, problem.observation, inflation=factor, **parameters)
        for factor in (1.0, 1.5)
    )
    plain, inflated = (filter_.analyse(ensemble, problem.y) for filter_ in filters)
    np.testing.assert_allclose(inflated, inflate(plain, 1.5), rtol=1e-12, atol=1e-12)


QUICK = {
    "masf": {"network": False},
    "masf_fresh": {"network": False},
    "masf_guided": {"network": False, "steps": 20},
    "particle": {"particles": 100_000, "bandwidth": 1.0},
    "sf": {"training_steps": 2, "steps": 20},
    "ssls": {"training_steps": 2, "langevin_steps": 20},
}
LARGE, FINE = 101_325.0, 2**7
"""The size of pressures in pascals, and the numbers that float32 has between two whole ones."""


@pytest.mark.parametrize("stride", [1, 2], ids=["all measured", "every second"])
@pytest.mark.parametrize("name", filter_names())
def test_large_states_cost_no_more_than_the_rounding_of_their_numbers(name, stride):
    """The same members at 0 and at 101,325, exact there in float32, have the same analysis."""
    d, n, noise = 6, 1000, 0.1
    rng = np.random.default_rng(3)
    members = 0.3 * rng.standard_normal((n, d)) @ np.linalg.cholesky(0.5 + 0.5 * np.eye(d)).T
    members = np.round(members * FINE) / FINE
    observation = Mask(d, np.arange(0, d, stride), noise)
    y = np.round(0.3 * rng.standard_normal(observation.size) * FINE) / FINE
    still = {"dimension": d, "speed": 0, "diffusion": 0, "persistence": 1, "model_noise": 0}
    system, cls = make_system("linear_gaussian", still), filter_class(name)
    parameters = cls.Parameters(**QUICK.get(name, {}))
    device = "cpu" if cls.needs_torch(parameters) else None
    means, spreads, covariances = [], [], []
    for size in (0.0, LARGE):
        ensemble = on_device(members + size, device)
        setup = Setup(
            system, observation, on_device((members + size).mean(axis=0), device), None,
            Stream(0, "large"), initial_anomalies=on_device(members - members.mean(axis=0), device),
        )  # fmt: skip
        filter_ = cls(parameters, setup)
        state = filter_.analyse(
            filter_.forecast(filter_.start(ensemble)), on_device(y + size, device)
        )
        mean, spread = map(to_numpy, filter_.moments(state))
        means.append(mean.astype(np.float64) - size)
        spreads.append(spread)
        covariances.append(to_numpy(filter_.covariance(state)))
    assert np.max(np.abs(means[1] - means[0])) < 0.3 * noise
    np.testing.assert_allclose(spreads[1], spreads[0], rtol=0.2)
    np.testing.assert_allclose(covariances[1], covariances[0], atol=0.2 * spreads[0].max() ** 2)


EXACT_MEAN = [
    "enkf",
    "enkf_localized",
    "etkf",
    "letkf",
    "enkf_n",
    "masf_gaussian",
    "masf",
    "masf_mc",
]
"""Filters whose analysis mean is Kalman's for the ensemble's mean and covariance."""
EXACT = {
    "masf": {"network": False, "steps": 1},
    "masf_mc": {"bandwidth": 1.0, "weight_radius": None, "steps": 1},
}


@pytest.mark.parametrize(
    ("components", "noise"),
    [
        ([0, 0, 1, 2], [1e-4] * 4),
        ([0, 0, 1, 2], [1e-6] * 4),
        ([0, 1, 2, 3, 4, 5], [1e-4] * 6),
        ([0, 2, 4], [1.0, 1e10, 1.0]),
        ([0, 2, 4], [1e-4, 1e18, 1e-4]),
    ],
    ids=["doubled, accurate", "doubled, very accurate", "accurate", "one useless", "both"],
)
@pytest.mark.parametrize("name", EXACT_MEAN)
def test_extreme_noise_leaves_float32_analyses_exact(name, components, noise):
    d, n = 6, 100
    rng = np.random.default_rng(3)
    members = rng.standard_normal((n, d)) @ np.linalg.cholesky(0.5 + 0.5 * np.eye(d)).T
    members = members.astype(np.float32)
    observation = Mask(d, components, noise)
    truth = observation.apply(np.full(d, 0.2))
    y = (truth + np.asarray(noise) * rng.standard_normal(len(noise))).astype(np.float32)
    cls = filter_class(name)
    fields = cls.Parameters.model_fields
    untapered = {"localization_radius": None} if "localization_radius" in fields else {}
    filter_ = cls(
        cls.Parameters(**untapered, **EXACT.get(name, {})),
        Setup(
            make_system("linear_gaussian", LINEAR | {"dimension": d}),
            observation, members.mean(axis=0), 1.0, Stream(0, "extreme"),
        ),
    )  # fmt: skip
    mean, spread = filter_.moments(filter_.analyse(filter_.start(members), y))
    exact = kalman_update(
        Gaussian(members.mean(axis=0, dtype=np.float64), np.cov(members.T.astype(np.float64))),
        y.astype(np.float64), observation.matrix, observation.noise.covariance,
    )  # fmt: skip
    deviation = np.sqrt(np.diag(exact.covariance))
    # enkf_n inflates a little, which moves the mean where something is not measured.
    rtol = 0.1 if name == "enkf_n" else 0.005
    # What float32 cannot hold is no error of a filter's.
    assert np.all(np.abs(mean - exact.mean) < rtol * deviation + 2 * np.spacing(np.float32(1)))
    np.testing.assert_allclose(spread, deviation, rtol=0.3, atol=2 * np.spacing(np.float32(1)))


@pytest.mark.parametrize(("noise", "said"), [(1.0, False), (1e4, True)])
def test_the_guided_filter_says_what_noise_its_scheme_does_not_come_back_from(noise, said, caplog):
    """Its error is a share of the noise, which is no matter where that is as large as the
    spread.
    """
    system = masf.make_system("linear_gaussian", dimension=6, model_noise=0.5)
    observation = masf.make_observation(system, "identity", noise=[noise, *[1.0] * 5])
    problem = masf.simulate(system, observation, gap=2, cycles=3, members=100)
    found = masf.assimilate(problem, "masf_guided", {"network": False})
    exact = masf.assimilate(problem, "kalman")
    off = np.abs(found["mean"] - exact["mean"]).values.max()
    assert (off > 3 * float(exact["spread"].max())) == said
    lines = [line for line in caplog.messages if "masf_guided: of measurements with so" in line]
    assert len(lines) == said


@pytest.mark.parametrize("noise", [1e-20, 1e20, [1.0, 1e25], [[1.0, 0.0], [0.0, 1e40]], np.inf])
def test_noise_whose_square_is_no_float32_number_is_refused(noise):
    with pytest.raises(ValueError, match=r"noise .* expected 1e-\d+ to 1e\+\d+"):
        Mask(2, [0, 1], noise)


def test_free_run_does_not_look_at_the_measurement():
    problem = make_problem("mask", 4)
    ensemble = problem.prior_draws(5, seed=1)
    np.testing.assert_array_equal(
        make_filter("free_run", problem.observation).analyse(ensemble, problem.y), ensemble
    )


def test_moments_are_the_mean_and_the_unbiased_spread():
    problem = make_problem("mask", 4)
    ensemble = problem.prior_draws(5, seed=1)
    mean, spread = make_filter("free_run", problem.observation).moments(ensemble)
    np.testing.assert_allclose(mean, ensemble.mean(axis=0))
    np.testing.assert_allclose(spread, ensemble.std(axis=0, ddof=1))


def test_particles_start_from_the_initial_distribution(assert_moments):
    filter_ = make_filter(
        "particle", make_problem("mask", 4).observation, particles=20_000, spread=0.4
    )
    assert_moments(filter_.start(np.empty((2, 4))), filter_.setup.initial_mean, 0.16 * np.eye(4))


SMALL = {name: {"network": False} for name in NETWORKS} | {
    "particle": {"particles": 50},
    "sf": {"training_steps": 2, "steps": 3},
    "ssls": {"training_steps": 2, "langevin_steps": 3},
}


@pytest.mark.parametrize("name", [n for n in filter_names() if n != "kalman"])
def test_filters_run_on_torch_tensors(name):
    problem, cls = make_problem("mask", 4), filter_class(name)
    parameters = SMALL.get(name, {})
    mean = torch.zeros(4, dtype=torch.float32)
    # Without model noise, which smoothers refuse.
    system = make_system("linear_gaussian", LINEAR | {"model_noise": 0.0})
    filter_ = cls(
        cls.Parameters(**parameters),
        Setup(system, problem.observation, mean, 1.0, Stream(0, "test")),
    )
    ensemble = torch.as_tensor(problem.prior_draws(8, seed=1), dtype=torch.float32)
    state = filter_.forecast(filter_.start(ensemble))
    analysis = filter_.analyse(state, torch.as_tensor(problem.y, dtype=torch.float32))
    assert isinstance(analysis, torch.Tensor)
    assert analysis.dtype == torch.float32
    assert analysis.shape == state.shape
    assert torch.all(torch.isfinite(analysis))


def test_faults_of_a_setup_are_named():
    observation = make_problem("mask", 4).observation
    with pytest.raises(ValueError, match="needs a pretrained prior"):
        make_filter("masf", observation)
    dense = make_problem("dense", 4)
    for name, parameters in (("masf", {"network": False}), ("masf_gaussian", {})):
        with pytest.raises(
            ValueError, match="covariance = 'diagonal': needs an observation that is a mask"
        ):
            make_filter(name, dense.observation, covariance="diagonal", **parameters)
    with pytest.raises(ValueError, match="at least 2"):
        ensemble_needs_members(np.zeros((1, 4)))
    lorenz63 = make_system("lorenz63", {"dt": 0.01})
    setup = Setup(lorenz63, Mask(3, [0], noise=1.0), np.zeros(3), 1.0, Stream(0, "test"))
    for name in ("masf", "masf_gaussian", "enkf_localized", "letkf"):
        cls = filter_class(name)
        parameters = {"network": False} if name in NETWORKS else {}
        with pytest.raises(ValueError, match="no distances; set it to null"):
            cls(cls.Parameters(**parameters), setup)
