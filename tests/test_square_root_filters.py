"""ETKF and LETKF: against the Kalman update, against each other, and against DAPPER's analyses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import KINDS, make_problem

from masf.arrays import Stream
from masf.ensembles import domains
from masf.ensembles.localization import SMALLEST_WEIGHT, gaspari_cohn, torus_distances
from masf.ensembles.rotation import random_rotation, zero_sum_basis
from masf.filters.base import Filter, Setup
from masf.filters.kalman import Gaussian, kalman_update
from masf.filters.registry import filter_class
from masf.observations.base import Observation
from masf.observations.mask import Mask
from masf.observations.matrix import Matrix
from masf.systems.registry import make_system

REFERENCE = Path(__file__).parent / "data" / "dapper_analyses.npz"
CASES = range(11)


class Grid:
    """Stands for a system with components on a periodic grid."""

    spacing = 1.0

    def __init__(self, fields: int, *grid: int) -> None:
        self.grid, self.dimension = grid, fields * int(np.prod(grid))


def make_filter(
    name: str,
    observation: Observation,
    system: object = None,
    *,
    like: object = None,
    **parameters: object,
) -> Filter:
    cls, system = filter_class(name), system or Grid(1, observation.dimension)
    mean = np.zeros(observation.dimension) if like is None else like
    return cls(
        cls.Parameters(**parameters),
        Setup(system, observation, mean, 1.0, Stream(0, f"test {name}")),
    )


def by_definition(
    ensemble: np.ndarray, y: np.ndarray, h: np.ndarray, precision: np.ndarray
) -> np.ndarray:
    """The transform as Hunt et al. (2007) write it, for states (N, d) and R^(-1) (m, m)."""
    n, mean = len(ensemble), ensemble.mean(axis=0)
    observed = (ensemble - mean) @ h.T
    values, vectors = np.linalg.eigh((n - 1) * np.eye(n) + observed @ precision @ observed.T)
    w = vectors / values @ vectors.T @ observed @ precision @ (y - h @ mean)
    transform = np.sqrt(n - 1) * vectors / np.sqrt(values) @ vectors.T
    return mean + (w + transform) @ (ensemble - mean)


# --- the ETKF


@pytest.mark.parametrize("rotation", [False, True])
@pytest.mark.parametrize("n", [3, 30], ids=["fewer members than measurements", "more"])
@pytest.mark.parametrize("kind", KINDS)
def test_etkf_has_the_mean_and_covariance_of_the_kalman_update(kind, n, rotation):
    problem = make_problem(kind, 8)
    ensemble = problem.prior_draws(n, seed=1)
    h, r = problem.observation.matrix, problem.observation.noise.covariance
    posterior = kalman_update(Gaussian(ensemble.mean(axis=0), np.cov(ensemble.T)), problem.y, h, r)
    analysis = make_filter("etkf", problem.observation, rotation=rotation).analyse(
        ensemble, problem.y
    )
    np.testing.assert_allclose(analysis.mean(axis=0), posterior.mean, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.cov(analysis.T), posterior.covariance, rtol=1e-9, atol=1e-11)
    if not rotation:
        np.testing.assert_allclose(
            analysis, by_definition(ensemble, problem.y, h, np.linalg.inv(r)), rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("d", [6, 40], ids=["fewer measurements than members", "more"])
def test_accurate_measurements_cost_no_digits_in_float32(d):
    """S S^T has eigenvalues 1e8, 1e4 and 1, which float32 does not hold apart."""
    spread, n, noise = np.array([1.0, 1e-2, 1e-4]), 10, 1e-4
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((d, 3)))[0]
    modes = np.sqrt(n - 1) * zero_sum_basis(n)[:, :3]
    ensemble = modes * spread @ directions.T
    observation = Mask(d, np.arange(d), noise=noise)
    analysis = make_filter("etkf", observation).analyse(
        ensemble.astype(np.float32), np.zeros(d, np.float32)
    )
    assert analysis.dtype == np.float32
    expected = modes * spread / np.sqrt(1 + (spread / noise) ** 2)
    np.testing.assert_allclose(analysis @ directions, expected, atol=1e-2 * noise)


@pytest.mark.parametrize("n", [2, 3, 20])
def test_rotations_are_orthogonal_keep_the_mean_and_differ(n):
    stream = Stream(0, "test")
    first, second = (random_rotation(n, np.empty(0), stream) for _ in range(2))
    np.testing.assert_allclose(first @ first.T, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(first.sum(axis=1), 1, atol=1e-12)
    assert n == 2 or np.max(np.abs(first - second)) > 0.1


def test_rotations_favour_no_direction(bonferroni):
    """A uniform rotation of dimension n - 1 has entries of mean 0 and variance 1 / (n - 1), but for
    the mean's 1 / n.
    """
    n, repeats = 4, 4000
    stream = Stream(0, "test")
    entries = np.array([random_rotation(n, np.empty(0), stream) - 1 / n for _ in range(repeats)])
    errors = entries.mean(axis=0) / (entries.std(axis=0, ddof=1) / np.sqrt(repeats))
    # C Q C^T with rows of C of squared length 1 - 1/n.
    squares = entries**2
    expected = (1 - 1 / n) ** 2 / (n - 1)
    square_errors = (squares.mean(axis=0) - expected) / (
        squares.std(axis=0, ddof=1) / np.sqrt(repeats)
    )
    assert np.max(np.abs([errors, square_errors])) < bonferroni(2 * n * n)


@pytest.mark.parametrize(
    ("name", "parameters"), [("masf_gaussian", {}), ("masf_mc", {"weight_radius": None})]
)
def test_rotation_of_masf_mixes_members_and_keeps_mean_and_covariance(name, parameters):
    problem = make_problem("mask", 8)
    ensemble = problem.prior_draws(20, seed=1)
    settings = {"perturbation": 0.3, "localization_radius": 2.0, **parameters}
    plain, rotated = (
        make_filter(name, problem.observation, Grid(1, 8), rotation=r, **settings).analyse(
            ensemble, problem.y
        )
        for r in (False, True)
    )
    np.testing.assert_allclose(rotated.mean(axis=0), plain.mean(axis=0), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.cov(rotated.T), np.cov(plain.T), rtol=1e-9, atol=1e-11)
    assert np.min(np.max(np.abs(rotated - plain), axis=1)) > 1e-3


# --- the LETKF


@pytest.mark.parametrize("radius", [None, 1e7], ids=["no radius", "a radius without end"])
@pytest.mark.parametrize("n", [3, 30], ids=["fewer members than measurements", "more"])
@pytest.mark.parametrize("kind", ["identity", "mask", "mask, correlated noise"])
def test_letkf_without_localisation_is_the_etkf(kind, n, radius):
    problem = make_problem(kind, 8)
    ensemble = problem.prior_draws(n, seed=1)
    expected = make_filter("etkf", problem.observation, inflation=1.2).analyse(ensemble, problem.y)
    found = make_filter("letkf", problem.observation, inflation=1.2, localization_radius=radius)
    np.testing.assert_allclose(found.analyse(ensemble, problem.y), expected, rtol=1e-9, atol=1e-11)


def test_letkf_where_components_have_no_place_is_the_etkf():
    problem = make_problem("mask", 3)
    lorenz63, ensemble = make_system("lorenz63", {"dt": 0.01}), problem.prior_draws(10, seed=1)
    found = make_filter("letkf", problem.observation, lorenz63, localization_radius=None).analyse(
        ensemble, problem.y
    )
    np.testing.assert_array_equal(
        found, make_filter("etkf", problem.observation).analyse(ensemble, problem.y)
    )


def test_letkf_with_the_least_radius_is_one_scalar_update_at_each_component():
    problem = make_problem("mask", 8)
    observation, ensemble = problem.observation, problem.prior_draws(5, seed=1)
    analysis = make_filter("letkf", observation, localization_radius=0.5).analyse(
        ensemble, problem.y
    )
    expected = ensemble.copy()
    for i, y, r in zip(observation.indices, problem.y, observation.noise.variance, strict=True):
        x = ensemble[:, i]
        p = x.var(ddof=1)
        mean = x.mean() + p / (p + r) * (y - x.mean())
        expected[:, i] = mean + np.sqrt(r / (p + r)) * (x - x.mean())
    np.testing.assert_allclose(analysis, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2**24], ids=["a point at a time", "all points at once"])
@pytest.mark.parametrize("n", [4, 40], ids=["fewer members than local measurements", "more"])
def test_letkf_is_an_etkf_at_each_point_for_all_its_fields(n, chunk, monkeypatch):
    monkeypatch.setattr(domains, "NUMBERS_AT_ONCE", chunk)
    rng, system = np.random.default_rng(0), Grid(2, 5, 6)
    ensemble = rng.standard_normal((n, 60)) @ rng.standard_normal((60, 60)) / 5
    # The first field everywhere, and the second at two points.
    observed = np.array([*range(30), 33, 59])
    observation = Mask(60, observed, noise=np.linspace(0.5, 1.5, 32))
    y = rng.standard_normal(32)
    filter_ = make_filter("letkf", observation, system, localization_radius=1.6)
    analysis = filter_.analyse(ensemble, y)
    indices, roots = filter_.domains.indices, filter_.domains.roots  # by test_localization.py
    weights = np.zeros((30, 32))
    np.add.at(weights, (np.arange(30)[:, None], indices), roots**2)
    for point in range(30):
        components = [point, 30 + point]
        h = np.eye(60)[observed]
        full = by_definition(ensemble, y, h, np.diag(weights[point] / observation.noise.variance))
        np.testing.assert_allclose(
            analysis[:, components], full[:, components], rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize(("shape", "block"), [((3, 4), 1), ((4, 6), 2), ((6, 3), 3), ((12,), 4)])
def test_a_block_shares_the_transform_of_its_centre(shape, block):
    rng, system = np.random.default_rng(0), Grid(2, *shape)
    points = int(np.prod(shape))
    ensemble, y = rng.standard_normal((8, 2 * points)), rng.standard_normal(points)
    observation = Mask(2 * points, np.arange(points), noise=0.5)
    analysis = make_filter(
        "letkf", observation, system, localization_radius=1.5, block=block
    ).analyse(ensemble, y)
    places = np.indices(shape).reshape(len(shape), -1).T
    for place in places:
        centre = place - place % block + (block - 1) / 2
        weights = gaspari_cohn(torus_distances(centre[None], places, shape)[0], 1.5)
        point = np.ravel_multi_index(tuple(place), shape)
        kept = np.where(weights > SMALLEST_WEIGHT, weights, 0) / observation.noise.variance
        full = by_definition(ensemble, y, np.eye(2 * points)[:points], np.diag(kept))
        np.testing.assert_allclose(
            analysis[:, [point, points + point]],
            full[:, [point, points + point]],
            rtol=1e-9,
            atol=1e-11,
        )


def test_blocks_that_do_not_fill_the_grid_are_refused():
    observation = Mask(24, [0], noise=1.0)
    with pytest.raises(
        ValueError, match="block = 3: does not divide the grid 4 x 6; set it to a divisor"
    ):
        make_filter("letkf", observation, Grid(1, 4, 6), block=3)


def test_components_without_measurements_near_them_keep_their_members():
    observation = Mask(40, [5], noise=1.0)
    ensemble = np.random.default_rng(0).standard_normal((6, 40))
    analysis = make_filter("letkf", observation, localization_radius=2.0).analyse(
        ensemble, np.ones(1)
    )
    far = np.abs(np.arange(40) - 5) > 3
    np.testing.assert_allclose(analysis[:, far], ensemble[:, far], atol=1e-14)
    assert np.all(np.abs(analysis - ensemble)[:, ~far].max(axis=0) > 1e-4)


def test_rows_that_measure_a_neighbourhood_localise_and_wide_ones_are_refused():
    means = np.kron(np.eye(4), np.full((1, 3), 1 / 3))
    ensemble, y = np.random.default_rng(0).standard_normal((6, 12)), np.ones(4)
    observation = Matrix(means, noise=0.5)
    analysis = make_filter("letkf", observation, localization_radius=1.0).analyse(ensemble, y)
    # The middle of three has full weight from its own row, and from no other.
    for row in range(4):
        middle = 3 * row + 1
        alone = by_definition(ensemble, y[[row]], means[[row]], np.full((1, 1), 4.0))
        np.testing.assert_allclose(analysis[:, middle], alone[:, middle], rtol=1e-10)
    with pytest.raises(ValueError, match="row 1: measures nothing, or more than half"):
        make_filter("letkf", Matrix(np.ones((1, 12)), noise=0.5), localization_radius=1.0)


# --- DAPPER


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as file:
        return dict(file)


def test_all_of_dappers_analyses_are_compared(reference):
    settings = json.loads(str(reference["settings"]))
    assert len(settings) == len(CASES)
    assert {s["loc_rad"] is None for s in settings} == {True, False}


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_analyses_are_dappers(case, library, reference):
    settings = json.loads(str(reference["settings"]))[case]
    ensemble, y, noise = (reference[f"{name}_{case}"] for name in ("ensemble", "y", "noise"))
    d = ensemble.shape[1]
    std = np.sqrt(noise) if noise.ndim == 1 else noise
    observation = Mask(d, np.arange(0, d, settings["stride"]), noise=std)
    name, parameters = "etkf", {"inflation": settings["inflation"]}
    if settings["loc_rad"] is not None:
        name, parameters["localization_radius"] = "letkf", 1.82 * settings["loc_rad"]
    mean = np.zeros(d)
    if library == "torch":
        ensemble, y, mean = map(torch.as_tensor, (ensemble, y, mean))
    analysis = make_filter(
        name, observation, Grid(1, *settings["grid"]), like=mean, **parameters
    ).analyse(ensemble, y)
    np.testing.assert_allclose(analysis, reference[f"analysis_{case}"], rtol=1e-9, atol=1e-11)
