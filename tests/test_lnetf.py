"""The local nonlinear ensemble transform filter: against its definition, component by component,
and against a particle filter's weights. DAPPER's is in test_dapper.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from problems import KINDS, make_problem
from test_square_root_filters import Grid, make_filter

from masf.arrays import Stream, to_numpy
from masf.ensembles.localization import SMALLEST_WEIGHT, gaspari_cohn, torus_distances
from masf.ensembles.rotation import random_rotation
from masf.filters.lnetf import weighted_update
from masf.observations.base import Transformed
from masf.observations.mask import Mask
from masf.observations.transforms import named_transform

PLAIN = {"rotation": False, "inflation": 1.0, "localization_radius": None}


def normalised(log_weights: np.ndarray) -> np.ndarray:
    weights = np.exp(log_weights - log_weights.max())
    return weights / weights.sum()


def by_definition(ensemble: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The transform as Tödter and Ahrens (2015) write it, by a general matrix root."""
    n, mean = len(ensemble), ensemble.mean(axis=0)
    anomalies = ensemble - mean
    values, vectors = scipy.linalg.eigh(np.diag(weights) - np.outer(weights, weights))
    root = vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T
    return mean + weights @ anomalies + np.sqrt(n) * root @ anomalies


@pytest.mark.parametrize("n", [3, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_analysis_has_the_mean_and_covariance_of_a_particle_filters_weights(kind, n):
    problem = make_problem(kind, 8)
    ensemble, observation = problem.prior_draws(n, seed=1), problem.observation
    weights = normalised(observation.log_likelihood(ensemble, problem.y))
    filter_ = make_filter("lnetf", observation, **PLAIN)
    analysis = filter_.analyse(ensemble, problem.y)
    mean = weights @ ensemble
    np.testing.assert_allclose(analysis.mean(axis=0), mean, rtol=1e-7, atol=1e-9)
    expected = (ensemble - mean).T * weights @ (ensemble - mean)
    np.testing.assert_allclose(np.cov(analysis.T, bias=True), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(analysis, by_definition(ensemble, weights), rtol=1e-6, atol=1e-7)
    assert filter_.diagnostics()["effective_size"] == pytest.approx(1 / np.sum(weights**2))


def test_weights_are_those_of_a_nonlinear_measurement():
    observation = Transformed(Mask(6, [0, 2, 5], noise=0.7), named_transform("square", 1.0))
    ensemble = np.random.default_rng(0).standard_normal((12, 6))
    y = np.array([0.3, 1.5, 0.1])
    weights = normalised(observation.log_likelihood(ensemble, y))
    analysis = make_filter("lnetf", observation, **PLAIN).analyse(ensemble, y)
    np.testing.assert_allclose(analysis, by_definition(ensemble, weights), rtol=1e-6, atol=1e-7)


def test_equal_weights_leave_the_members_and_one_weight_takes_the_spread():
    anomalies = np.random.default_rng(0).standard_normal((2, 7, 3))
    anomalies -= anomalies.mean(axis=1, keepdims=True)
    weights = np.full((2, 7), 1 / 7)
    weights[1] = np.eye(7)[4]
    increment, analysis = weighted_update(anomalies, weights)
    np.testing.assert_allclose(increment[0], 0, atol=1e-12)
    np.testing.assert_allclose(analysis[0], anomalies[0], atol=1e-7)
    np.testing.assert_allclose(increment[1], anomalies[1, 4], atol=1e-12)
    np.testing.assert_allclose(analysis[1], 0, atol=1e-7)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_each_point_has_weights_by_the_measurements_near_it(library):
    rng, radius, factor = np.random.default_rng(0), 1.6, 1.3
    ensemble = rng.standard_normal((9, 60)) @ rng.standard_normal((60, 60)) / 5
    observed = np.array([*range(30), 33, 59])
    noise = np.linspace(0.5, 1.5, 32)
    observation, y = Mask(60, observed, noise=noise), rng.standard_normal(32)
    chosen = PLAIN | {"localization_radius": radius, "noise_factor": factor}
    given = [ensemble, y, np.zeros(60)]
    if library == "torch":
        given = list(map(torch.as_tensor, given))
    filter_ = make_filter("lnetf", observation, Grid(2, 5, 6), like=given[2], **chosen)
    analysis = to_numpy(filter_.analyse(*given[:2]))
    places = np.stack(np.unravel_index(np.arange(30), (5, 6)), axis=-1)
    tapers = gaspari_cohn(torus_distances(places, places[observed % 30], (5, 6)), radius)
    tapers = np.where(tapers > SMALLEST_WEIGHT, tapers, 0)
    squares = ((y - ensemble[:, observed]) / noise / factor) ** 2
    for point in range(30):
        weights = normalised(-0.5 * squares @ tapers[point])
        components = [point, 30 + point]
        np.testing.assert_allclose(
            analysis[:, components],
            by_definition(ensemble, weights)[:, components],
            rtol=1e-6,
            atol=1e-7,
        )


def test_one_rotation_serves_all_points_and_keeps_mean_and_covariance():
    problem = make_problem("mask", 8)
    ensemble = problem.prior_draws(6, seed=1)
    chosen = PLAIN | {"localization_radius": 2.0}
    plain = make_filter("lnetf", problem.observation, **chosen).analyse(ensemble, problem.y)
    rotated = make_filter("lnetf", problem.observation, **chosen | {"rotation": True})
    found = rotated.analyse(ensemble, problem.y)
    mean = plain.mean(axis=0)
    matrix = random_rotation(6, ensemble, Stream(0, "test lnetf"))
    np.testing.assert_allclose(found, mean + matrix @ (plain - mean), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(np.cov(found.T), np.cov(plain.T), rtol=1e-9, atol=1e-10)
