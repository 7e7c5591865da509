"""The rank histogram filter: quantiles by quadrature of the density that it says it has, regression
one measurement after another, and groups of measurements.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from problems import KINDS, make_problem
from test_square_root_filters import Grid, make_filter

from masf.arrays import to_numpy
from masf.ensembles.localization import SMALLEST_WEIGHT, gaspari_cohn, torus_distances
from masf.ensembles.serial import grouped, groups_of
from masf.filters.rhf import rank_histogram_increments
from masf.observations.base import Transformed
from masf.observations.mask import Mask
from masf.observations.transforms import named_transform

ALONE = {"localization_radius": None, "rotation": False}


def density(x: np.ndarray, members: np.ndarray, tails: str) -> np.ndarray:
    """The posterior density, up to a constant, that Anderson (2010) describes, for a measurement 0
    with error variance 1.
    """
    n, h = len(members), np.sort(members)
    spread = np.std(h, ddof=1)
    left = scipy.stats.norm(h[0] - scipy.stats.norm.ppf(1 / (n + 1)) * spread, spread)
    right = scipy.stats.norm(h[-1] + scipy.stats.norm.ppf(1 / (n + 1)) * spread, spread)
    likelihood = np.exp(-(h**2) / 2)
    beyond = (lambda x, _: np.exp(-(x**2) / 2)) if tails == "gaussian" else (lambda _, end: end)
    values = np.zeros_like(x)
    for i in range(n - 1):
        inside = (x >= h[i]) & (x < h[i + 1])
        mean = (likelihood[i] + likelihood[i + 1]) / 2
        values[inside] = mean / ((n + 1) * (h[i + 1] - h[i]))
    below, above = x < h[0], x >= h[-1]
    values[below] = left.pdf(x[below]) * beyond(x[below], likelihood[0])
    values[above] = right.pdf(x[above]) * beyond(x[above], likelihood[-1])
    return values


CASES = {
    "around": [-1.2, 0.7, -0.3, 2.1, 0.1, 1.4],
    "to the right": [3.0, 3.4, 5.2, 4.1],
    "to the left": [-6.0, -3.5, -4.4, -4.5, -5.1],
    "two": [0.4, -0.9],
    "two clusters": [-4.0, -4.1, -3.9, 4.0, 4.1, 4.3],
}


@pytest.mark.parametrize("tails", ["gaussian", "flat"])
@pytest.mark.parametrize("members", CASES.values(), ids=CASES)
def test_members_go_to_equal_quantiles_of_the_posterior(members, tails):
    members = np.array(members)
    moved = members + rank_histogram_increments(members[None], tails)[0]
    assert np.all(np.argsort(moved) == np.argsort(members))
    edges = np.concatenate([np.sort(members), np.sort(moved)])
    x = np.unique(np.concatenate([np.linspace(-40, 40, 400_001), edges, edges - 1e-12]))
    values = density(x, members, tails)
    masses = np.concatenate([[0], np.cumsum(np.diff(x) * (values[1:] + values[:-1]) / 2)])
    found = np.interp(np.sort(moved), x, masses / masses[-1])
    n = len(members)
    np.testing.assert_allclose(found, np.arange(1, n + 1) / (n + 1), atol=2e-6)


def test_a_batch_is_each_of_its_scalars_on_numpy_and_torch():
    members = np.random.default_rng(0).standard_normal((3, 8)) * [[1.0], [4.0], [0.1]] + [
        [0.0],
        [2.0],
        [-1.0],
    ]
    for tails in ("gaussian", "flat"):
        batch = rank_histogram_increments(members, tails)
        for row, expected in zip(members, batch, strict=True):
            found = rank_histogram_increments(row[None], tails)[0]
            np.testing.assert_allclose(found, expected, rtol=1e-12)
        in_torch = rank_histogram_increments(torch.as_tensor(members), tails)
        np.testing.assert_allclose(to_numpy(in_torch), batch, rtol=1e-9, atol=1e-12)


def test_extreme_members_are_finite_and_equal_ones_stay():
    far = np.array([[1e6, 1e6 + 1, 1e6 + 3], [-1e8, -2e8, -1e8], [2.0, 2.0, 2.0], [5.0, 5.0, 6.0]])
    for tails in ("gaussian", "flat"):
        increments = rank_histogram_increments(far, tails)
        assert np.all(np.isfinite(increments))
        np.testing.assert_array_equal(increments[2], 0)
    # A normal tail that is multiplied by the likelihood goes where a Kalman filter goes.
    moved = far[0] + rank_histogram_increments(far[:1], "gaussian")[0]
    variance = np.var(far[0], ddof=1)
    assert moved.mean() == pytest.approx(far[0].mean() / (1 + variance), rel=1e-3)


def by_definition(
    ensemble: np.ndarray, departures: np.ndarray, tapers: np.ndarray, between: np.ndarray
) -> np.ndarray:
    """One measurement after another, each component and each later measurement by regression: for
    departures (N, m) of what members would measure, tapers (m, d) and ``between`` (m, m).
    """
    x, h = ensemble.copy(), departures.copy()
    for j in range(h.shape[1]):
        own = h[:, j].copy()
        increments = rank_histogram_increments(own[None], "gaussian")[0]
        variance = np.var(own, ddof=1)
        for k in range(x.shape[1]):
            slope = np.cov(x[:, k], own)[0, 1] / variance
            x[:, k] += tapers[j, k] * slope * increments
        for k in range(h.shape[1]):
            slope = np.cov(h[:, k], own)[0, 1] / variance
            h[:, k] += between[j, k] * slope * increments
    return x


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_regressed_on_each_measurement_in_turn(kind):
    problem = make_problem(kind, 8)
    observation, ensemble = problem.observation, problem.prior_draws(7, seed=1)
    m = observation.size
    departures = observation.noise.whiten(observation.apply(ensemble) - problem.y)
    expected = by_definition(ensemble, departures, np.ones((m, 8)), np.ones((m, m)))
    found = make_filter("rhf", observation, **ALONE).analyse(ensemble, problem.y)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("radius", [0.6, 1.6, 4.0])
@pytest.mark.parametrize(("fields", "grid"), [(1, (36,)), (2, (5, 6))])
def test_localised_it_is_the_same_in_the_order_of_the_groups(fields, grid, radius, library):
    rng, points = np.random.default_rng(0), int(np.prod(grid))
    d = fields * points
    ensemble = rng.standard_normal((9, d)) @ rng.standard_normal((d, d)) / 5
    observed = np.array([*range(0, points, 3), *([points + 3, d - 1] if fields == 2 else [])])
    observation = Transformed(
        Mask(d, observed, noise=np.linspace(0.5, 1.5, len(observed))), named_transform("cube", 1.0)
    )
    y = rng.standard_normal(len(observed))
    given = [ensemble, y, np.zeros(d)]
    if library == "torch":
        given = list(map(torch.as_tensor, given))
    filter_ = make_filter(
        "rhf", observation, Grid(fields, *grid), like=given[2], localization_radius=radius
    )
    found = to_numpy(filter_.analyse(*given[:2]))
    order = np.concatenate([to_numpy(group.own) - d for group in filter_.groups])
    assert sorted(order) == list(range(len(observed)))
    places = np.stack(np.unravel_index(observed % points, grid), axis=-1)[order]
    everywhere = np.tile(np.indices(grid).reshape(len(grid), -1).T, (fields, 1))
    tapers, between = (
        np.where(t > SMALLEST_WEIGHT, t, 0)
        for t in (
            gaspari_cohn(torus_distances(places, other, grid), radius)
            for other in (everywhere, places)
        )
    )
    departures = observation.noise.whiten(observation.apply(ensemble) - y)[:, order]
    expected = by_definition(ensemble, departures, tapers, between)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)
    far = np.all(tapers == 0, axis=0)
    np.testing.assert_array_equal(found[:, far], ensemble[:, far])


def test_measurements_of_a_group_share_no_row():
    observation = Mask(60, np.arange(60), noise=1.0)
    groups = groups_of(observation, Grid(1, 60), 2.0, np.zeros(60))
    assert len(groups) < 15
    for group in groups:
        near = group.rows[group.tapers > 0]
        assert len(np.unique(near)) == len(near)


def test_groups_are_the_first_that_a_measurement_may_join():
    conflicts = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]], dtype=bool)
    assert [list(g) for g in grouped(conflicts)] == [[0, 2], [1, 3]]
    assert grouped(np.zeros((0, 0), dtype=bool)) == []


def test_a_bimodal_prior_keeps_its_modes_where_a_kalman_filter_mixes_them():
    """Members at -4 and 4, and a measurement of 4 that decides between them."""
    ensemble = np.concatenate([np.linspace(-4.2, -3.8, 10), np.linspace(3.8, 4.2, 10)])[:, None]
    observation, y = Mask(1, [0], noise=1.0), np.array([4.0])
    found = make_filter("rhf", observation, **ALONE).analyse(ensemble, y)
    assert np.all(found > 3)
    assert np.any(make_filter("etkf", observation).analyse(ensemble, y) < 3.5)
